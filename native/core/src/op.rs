//! Every operation, with its attributes, as Nx names them.

mod assertion;
mod attributes;
mod signature;
mod text;

use serde::{Deserialize, Serialize};

use crate::{Number, Program};

pub use attributes::{
    ActivationFunction, Assertion, Direction, QrMode, QuantizationMode, TieBreak, TransformA,
};

/// An operation of Nx.
///
/// Shapes and types of the result are not attributes: they come with the output's
/// [`TensorType`](crate::TensorType), as in `Nx.Backend`'s callbacks. Axes count from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "rustler", derive(rustler::NifTaggedEnum))]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the function of Nx that has its name")]
pub enum Op {
    // Creation
    Constant {
        value: Number,
    },
    /// The index along `axis`, or in row-major order.
    Iota {
        axis: Option<usize>,
    },
    /// Ones on the diagonal of the last two axes.
    Eye,

    // Type and shape
    AsType,
    Reshape,
    /// Drops axes of size 1; which ones follows from the output's shape.
    Squeeze,
    /// Input axis `i` becomes output axis `axes[i]`.
    Broadcast {
        axes: Vec<usize>,
    },
    Transpose {
        axes: Vec<usize>,
    },
    Reverse {
        axes: Vec<usize>,
    },
    Slice {
        starts: Vec<usize>,
        lengths: Vec<usize>,
        strides: Vec<usize>,
    },
    Concatenate {
        axis: usize,
    },
    Stack {
        axis: usize,
    },
    /// The same bits as another type of the same width.
    Bitcast,

    // Parts and indices
    /// Tensor, value; for each axis what comes before, after and between its elements.
    Pad {
        padding: Vec<(i64, i64, i64)>,
    },
    /// Tensor, then for each axis the start of the slice.
    DynamicSlice {
        lengths: Vec<usize>,
        strides: Vec<usize>,
    },
    /// Tensor, slice.
    PutSlice {
        starts: Vec<usize>,
    },
    /// Tensor, slice, then for each axis where the slice starts.
    DynamicPutSlice,
    /// Tensor, indices: a row of them has an index into each of `axes`.
    Gather {
        axes: Vec<usize>,
    },
    /// Tensor, indices, updates.
    IndexedAdd {
        axes: Vec<usize>,
    },
    /// Tensor, indices, updates, of which the last one with its indices counts.
    IndexedPut {
        axes: Vec<usize>,
    },
    /// Tensor, indices.
    Take {
        axis: usize,
    },
    /// Tensor, indices.
    TakeAlongAxis {
        axis: usize,
    },

    // Elementwise, one input
    Exp,
    Expm1,
    Log,
    Log1p,
    Sigmoid,
    Cos,
    Sin,
    Tan,
    Cosh,
    Sinh,
    Tanh,
    Acos,
    Asin,
    Atan,
    Acosh,
    Asinh,
    Atanh,
    Sqrt,
    Rsqrt,
    Cbrt,
    Erf,
    Erfc,
    ErfInv,
    Abs,
    Ceil,
    Floor,
    Round,
    Negate,
    Sign,
    Conjugate,
    Real,
    Imag,
    IsNan,
    IsInfinity,
    BitwiseNot,
    CountLeadingZeros,
    PopulationCount,
    LogicalNot,
    /// The angle of a complex number.
    Phase,

    // Elementwise, two inputs
    Add,
    Subtract,
    Multiply,
    Pow,
    Remainder,
    Divide,
    Quotient,
    Atan2,
    Min,
    Max,
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    LeftShift,
    RightShift,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    LogicalAnd,
    LogicalOr,
    LogicalXor,

    // Elementwise, three inputs
    /// Predicate, on true, on false.
    Select,
    /// Tensor, minimum, maximum.
    Clip,

    // Reductions; no axes means all of them
    Sum {
        axes: Option<Vec<usize>>,
        keep_axes: bool,
    },
    Product {
        axes: Option<Vec<usize>>,
        keep_axes: bool,
    },
    ReduceMax {
        axes: Option<Vec<usize>>,
        keep_axes: bool,
    },
    ReduceMin {
        axes: Option<Vec<usize>>,
        keep_axes: bool,
    },
    All {
        axes: Option<Vec<usize>>,
        keep_axes: bool,
    },
    Any {
        axes: Option<Vec<usize>>,
        keep_axes: bool,
    },
    Argmax {
        axis: Option<usize>,
        keep_axis: bool,
        tie_break: TieBreak,
    },
    Argmin {
        axis: Option<usize>,
        keep_axis: bool,
        tie_break: TieBreak,
    },
    /// With a function of an element, the accumulator, and further scalars that it uses: the inputs
    /// are the tensor, the accumulator, and these.
    Reduce {
        axes: Option<Vec<usize>>,
        keep_axes: bool,
        fun: Program,
    },

    /// Whether all elements of two tensors are close, which is 1 or 0.
    AllClose {
        equal_nan: bool,
        rtol: f64,
        atol: f64,
    },

    // Of each element and those before it, or those after it if reverse
    CumulativeSum {
        axis: usize,
        reverse: bool,
    },
    CumulativeProduct {
        axis: usize,
        reverse: bool,
    },
    CumulativeMin {
        axis: usize,
        reverse: bool,
    },
    CumulativeMax {
        axis: usize,
        reverse: bool,
    },

    // Contraction and order
    /// Sums products over `contract_*` for each index of `batch_*`; the output's axes are the batch
    /// axes, then what is left of each side.
    Dot {
        contract_a: Vec<usize>,
        batch_a: Vec<usize>,
        contract_b: Vec<usize>,
        batch_b: Vec<usize>,
    },
    Sort {
        axis: usize,
        direction: Direction,
    },
    /// Always stable.
    Argsort {
        axis: usize,
        direction: Direction,
    },
    /// The greatest elements along the last axis in descending order, and their indices.
    TopK {
        k: usize,
    },

    // Windows; each list has one entry an axis
    WindowSum {
        window: Vec<usize>,
        padding: Vec<(i64, i64)>,
        strides: Vec<usize>,
        window_dilations: Vec<usize>,
    },
    WindowProduct {
        window: Vec<usize>,
        padding: Vec<(i64, i64)>,
        strides: Vec<usize>,
        window_dilations: Vec<usize>,
    },
    WindowMax {
        window: Vec<usize>,
        padding: Vec<(i64, i64)>,
        strides: Vec<usize>,
        window_dilations: Vec<usize>,
    },
    WindowMin {
        window: Vec<usize>,
        padding: Vec<(i64, i64)>,
        strides: Vec<usize>,
        window_dilations: Vec<usize>,
    },
    /// With a function and further inputs as [`Self::Reduce`]; the accumulator is the padding too.
    WindowReduce {
        window: Vec<usize>,
        padding: Vec<(i64, i64)>,
        strides: Vec<usize>,
        window_dilations: Vec<usize>,
        fun: Program,
    },
    /// Tensor, source, initial value.
    WindowScatterMax {
        window: Vec<usize>,
        padding: Vec<(i64, i64)>,
        strides: Vec<usize>,
    },
    /// Tensor, source, initial value.
    WindowScatterMin {
        window: Vec<usize>,
        padding: Vec<(i64, i64)>,
        strides: Vec<usize>,
    },
    /// Input and kernel, whose axes the permutations give as batch (or outputs), channels, and the
    /// spatial ones, which the other lists have one entry each for.
    Conv {
        padding: Vec<(i64, i64)>,
        strides: Vec<usize>,
        input_dilation: Vec<usize>,
        kernel_dilation: Vec<usize>,
        feature_group_size: usize,
        batch_group_size: usize,
        input_permutation: Vec<usize>,
        kernel_permutation: Vec<usize>,
        output_permutation: Vec<usize>,
    },

    // Fourier transforms; parts of results up to `eps` are 0
    Fft {
        axis: usize,
        length: usize,
        eps: f64,
    },
    Ifft {
        axis: usize,
        length: usize,
        eps: f64,
    },
    Fft2 {
        axes: Vec<usize>,
        lengths: Vec<usize>,
        eps: f64,
    },
    Ifft2 {
        axes: Vec<usize>,
        lengths: Vec<usize>,
        eps: f64,
    },
    Rfft {
        axis: usize,
        length: usize,
        eps: f64,
    },
    Irfft {
        axis: usize,
        length: usize,
        eps: f64,
    },

    // Matrices in the last two axes
    /// Solves `a x = b`, or `x a = b` where `a` is not on the left side.
    TriangularSolve {
        lower: bool,
        left_side: bool,
        transform_a: TransformA,
    },
    Solve,
    Cholesky,
    Determinant,
    /// Q, R.
    Qr {
        mode: QrMode,
    },
    /// Eigenvalues, eigenvectors.
    Eigh,
    /// U, singular values, V transposed.
    Svd {
        full_matrices: bool,
    },
    /// P, L, U.
    Lu,

    // Fused: what several operations of Nx give together, in one kernel; of bf16, f16 and f32
    /// Along the last axis.
    Softmax,
    /// Tensor, gamma, beta, as long as the last axis, along which it is normalized.
    LayerNorm {
        epsilon: f64,
    },
    /// Tensor, and gamma if there is one, which has the sizes of its last axes; along the last axis.
    RmsNorm {
        epsilon: f64,
    },
    /// Tensor, cosines, sines: `x * cos + rotated * sin`, where the second half of the last axis,
    /// negated, comes before the first in what is rotated. Cosines and sines broadcast to the tensor.
    RotaryEmbedding,
    /// Tensor, gamma as long as its last axis, cosines, sines: [`Self::RotaryEmbedding`] of what
    /// [`Self::RmsNorm`] gives.
    RmsNormRotaryEmbedding {
        epsilon: f64,
    },
    /// Tensor of at least three axes, the last two of which are positions and features; the position of the
    /// first, one for all or one for each index of the first axis; and frequencies, unless `base` gives
    /// them. Pairs of the first `dims` features are turned: neighbours if `traditional`, else one of each half.
    Rope {
        dims: usize,
        traditional: bool,
        base: Option<f64>,
        scale: f64,
    },
    /// Query, key and value, all as batch, heads, positions, features; a mask if there is one; and `sinks`, if there
    /// are.
    ///
    /// A mask of u8 says where to look, one of floats is added to the scores; it broadcasts to batch,
    /// heads, positions of the query, positions of the key. The query's heads are a multiple of the
    /// key's and the value's, each of which serves that many in a row. Sinks are a score for each of the query's
    /// heads, which takes a share of the weights and has no value.
    Attention {
        scale: f64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sinks: bool,
    },
    /// Tensor, and if there is another, what the result is multiplied with; it has the same shape.
    Activation {
        function: ActivationFunction,
    },
    /// The inputs of [`Self::Dot`], and what is added to the product, to which it broadcasts.
    DotAdd {
        contract_a: Vec<usize>,
        batch_a: Vec<usize>,
        contract_b: Vec<usize>,
        batch_b: Vec<usize>,
    },

    // Quantized matrices: numbers packed into u32 along the last axis, and for each group of them a scale,
    // and a bias if the mode is affine; what follows takes these as two or three inputs in a row
    /// A tensor of at least two axes; gives the packed numbers, the scales, and the biases if there are any.
    Quantize {
        mode: QuantizationMode,
        group_size: usize,
        bits: usize,
    },
    /// A quantized matrix; the result has the scales' type, or any of its types if they are no floats.
    Dequantize {
        mode: QuantizationMode,
        group_size: usize,
        bits: usize,
    },
    /// Tensor, quantized matrix: their product, with the matrix transposed or as it is. An `exact` one has the
    /// bits of MLX's; on a CPU the matrix may be dequantized for any other, which rounds no more often.
    QuantizedMatmul {
        mode: QuantizationMode,
        group_size: usize,
        bits: usize,
        transpose: bool,
        exact: bool,
    },
    /// Matrices, quantized matrices, and indices into the first if `left`, into the second if `right`, of
    /// all their axes but the last two in row-major order: the products of the pairs that these name. Without
    /// indices one side's come in order. `sorted` promises that the only ones given ascend.
    GatherQmm {
        mode: QuantizationMode,
        group_size: usize,
        bits: usize,
        transpose: bool,
        left: bool,
        right: bool,
        sorted: bool,
    },

    // Debugging
    /// Another operation, and what must hold of its values: the same results, or an error that says
    /// which values are to blame.
    Checked {
        op: Box<Self>,
        of: Vec<Assertion>,
        /// The line of the program that asked for it, for the error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
    },
}
