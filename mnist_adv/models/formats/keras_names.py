"""The classes of Keras that a `.keras` file may name, by the module that it names them in.

Each is a part of nets that computes with numbers alone. What runs code of the file's choosing
(`Lambda`, loops and maps over functions, layers of other libraries) or opens files that it names
(tables of words) is in no row, and no name has a dot. HDF5's names are in `keras_config.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

_LAYERS = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D Add AdditiveAttention AlphaDropout Attention AugMix
    AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization
    Bidirectional CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D CutMix Dense
    DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU
    GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization
    LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MixUp
    MultiHeadAttention Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN
    RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
    RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue
    RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
    RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape
    Resizing SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax Solarization
    SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells
    Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D
    ZeroPadding2D ZeroPadding3D
"""
_INITIALIZERS = """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal
    LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal
    VarianceScaling Zeros
"""
_REGULARIZERS = "L1 L1L2 L2 OrthogonalRegularizer"
_CONSTRAINTS = "MaxNorm MinMaxNorm NonNeg UnitNorm"
_POLICIES = """
    DTypePolicy DTypePolicyMap FloatDTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy
"""
# What stands between layers where code computes with their outputs.
_NUMPY = """
    Abs Absolute Add Amax Amin Argmax Argmin Average BroadcastTo Ceil Clip Concatenate Cos Cumsum
    Divide DivideNoNan Dot Einsum Equal Exp ExpandDims Expm1 Flip Floor FloorDivide GetItem Greater
    GreaterEqual Less LessEqual Log Log10 Log1p Log2 LogicalAnd LogicalNot LogicalOr Matmul Max
    Maximum Mean Min Minimum Mod Moveaxis Multiply Negative NotEqual OnesLike Pad Power Prod Ravel
    Reciprocal Repeat Reshape Roll Round Sign Sin Split Sqrt Square Squeeze Stack Std Subtract Sum
    Swapaxes Take Tanh Tensordot Tile Transpose TrueDivide Var Vdot Where ZerosLike
"""
_NN = """
    AveragePool BatchNorm Celu Conv ConvTranspose DepthwiseConv Elu Gelu Glu HardSigmoid HardSilu
    HardTanh LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool Moments Normalize OneHot RMSNorm Relu
    Relu6 Selu SeparableConv Sigmoid Silu Softmax Softplus Softsign Squareplus TanhShrink Threshold
"""
_MATH = "Erf Logsumexp Rsqrt"
_CORE = "Cast Slice StopGradient Unstack"
_IMAGE = "CropImages PadImages RGBToGrayscale Resize"

NAMES: Mapping[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "keras": "DTypePolicy FloatDTypePolicy Model Sequential",
        "keras.layers": _LAYERS,
        "keras.initializers": _INITIALIZERS,
        "keras.regularizers": _REGULARIZERS,
        "keras.constraints": _CONSTRAINTS,
        "keras.dtype_policies": _POLICIES,
        "keras.src.models.functional": "Functional",
        "keras.src.models.sequential": "Sequential",
        "keras.src.ops.numpy": _NUMPY,
        "keras.src.ops.nn": _NN,
        "keras.src.ops.math": _MATH,
        "keras.src.ops.core": _CORE,
        "keras.src.ops.image": _IMAGE,
        # Layers of the nets that come with Keras.
        "keras.src.applications.convnext": "LayerScale StochasticDepth",
        "keras.src.applications.inception_resnet_v2": "CustomScaleLayer",
    }.items()
}
# What a config writes without a module: values, not code.
VALUES = frozenset(["__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__bytes__"])
