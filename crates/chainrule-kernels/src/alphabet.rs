//! The alphabet: the names of the elementwise operations, reductions, distributions and dtypes.
//!
//! The engine's `Op` is built from these enums and so are the kernels, so a new elementwise operation is one
//! variant here and the compiler lists every `match` that must learn it. Nothing here computes.

/// Type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// bfloat16: eight bits of exponent, seven of mantissa; computed through f32.
    BF16,
    /// IEEE 754 binary16; computed through f32.
    F16,
    /// Signed 32-bit integer; arithmetic wraps.
    I32,
    /// Signed 64-bit integer; arithmetic wraps.
    I64,
    /// Unsigned 8-bit integer; arithmetic wraps.
    U8,
    /// Truth value, one byte, 0 or 1.
    Bool,
}

impl DType {
    /// Every dtype, in the order of the enum.
    pub const ALL: [DType; 8] =
        [DType::F32, DType::F64, DType::BF16, DType::F16, DType::I32, DType::I64, DType::U8, DType::Bool];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::BF16 | DType::F16 => 2,
            DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether values of this dtype are real numbers, and so have derivatives.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::BF16 | DType::F16)
    }

    /// Whether values of this dtype are integers (bool is not).
    pub const fn is_int(self) -> bool {
        matches!(self, DType::I32 | DType::I64 | DType::U8)
    }

    /// The dtype's name as programs print it, `f32` for example.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::Bool => "bool",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! alphabet {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every variant, in the order of the enum.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name as programs print it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

alphabet!(
    /// Elementwise operations of one operand. All but `Neg`, `Abs`, `Sign` and `Not` take floats only.
    Unary {
        /// −x
        Neg = "neg",
        /// eˣ
        Exp = "exp",
        /// eˣ − 1, exact near 0
        Expm1 = "expm1",
        /// Natural logarithm.
        Log = "log",
        /// ln(1 + x), exact near 0
        Log1p = "log1p",
        /// Sine of radians.
        Sin = "sin",
        /// Cosine of radians.
        Cos = "cos",
        /// Arc tangent, in radians.
        Atan = "atan",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// Logistic sigmoid 1 / (1 + e⁻ˣ), without overflow.
        Sigmoid = "sigmoid",
        /// Error function 2/√π ∫₀ˣ e^(−t²) dt.
        Erf = "erf",
        /// Square root; NaN below 0.
        Sqrt = "sqrt",
        /// Absolute value.
        Abs = "abs",
        /// −1, 0 or 1; NaN stays NaN.
        Sign = "sign",
        /// Largest integer not above x, in the same dtype.
        Floor = "floor",
        /// Logical not of a bool.
        Not = "not",
    }
);

alphabet!(
    /// Elementwise operations of two operands of one dtype and shape.
    Binary {
        /// x + y
        Add = "add",
        /// x − y
        Sub = "sub",
        /// x · y
        Mul = "mul",
        /// x / y; integers truncate toward zero, and division by an integer 0 gives 0.
        Div = "div",
        /// The larger; NaN if either is.
        Max = "max",
        /// The smaller; NaN if either is.
        Min = "min",
        /// x to the power y, as IEEE 754 `pow`; floats only.
        Pow = "pow",
        /// Logical and of bools.
        And = "and",
        /// Logical or of bools.
        Or = "or",
    }
);

alphabet!(
    /// Elementwise comparisons; the result is bool, false where either side is NaN.
    Compare {
        /// x < y
        Less = "less",
        /// x ≤ y
        LessEqual = "less_equal",
        /// x = y
        Equal = "equal",
    }
);

alphabet!(
    /// Reductions over axes.
    Reduction {
        /// Σ x; 0 over nothing.
        Sum = "sum",
        /// Largest; NaN if any is; −∞ (or the dtype's least) over nothing. On bools: any.
        Max = "max",
        /// Smallest; NaN if any is; +∞ (or the dtype's largest) over nothing. On bools: all.
        Min = "min",
        /// Π x; 1 over nothing.
        Prod = "prod",
    }
);

alphabet!(
    /// What a counter-based generator draws.
    Distribution {
        /// 64 random bits as i64.
        Bits = "bits",
        /// Uniform on [0, 1): 24 bits for f32 and below, 53 for f64.
        Uniform = "uniform",
        /// Standard normal, by Box and Muller from two uniforms.
        Normal = "normal",
    }
);
