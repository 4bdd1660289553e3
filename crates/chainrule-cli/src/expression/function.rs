//! The functions and constants by name: one table, read by the parser, by `Display` and by LaTeX.

/// A named number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Constant {
    /// `pi`, 3.14159…
    Pi,
    /// `e`, 2.71828…
    E,
    /// `tau`, 6.28318…
    Tau,
}

impl Constant {
    /// All of them.
    pub const ALL: [Constant; 3] = [Constant::Pi, Constant::E, Constant::Tau];

    /// The name in an expression.
    pub fn name(self) -> &'static str {
        match self {
            Constant::Pi => "pi",
            Constant::E => "e",
            Constant::Tau => "tau",
        }
    }

    /// The number.
    pub fn value(self) -> f64 {
        match self {
            Constant::Pi => std::f64::consts::PI,
            Constant::E => std::f64::consts::E,
            Constant::Tau => std::f64::consts::TAU,
        }
    }

    /// The constant of this name.
    pub fn from_name(name: &str) -> Option<Constant> {
        Constant::ALL.into_iter().find(|constant| constant.name() == name)
    }

    pub(super) fn latex(self) -> &'static str {
        match self {
            Constant::Pi => "\\pi",
            Constant::E => "e",
            Constant::Tau => "\\tau",
        }
    }
}

/// Writes the enum and its table from one list: variant, name, arguments, LaTeX before the parenthesis, meaning.
macro_rules! functions {
    ($($variant:ident $name:literal $arity:literal $latex:literal $doc:literal)*) => {
        /// A function that can be called by name. `pow(a, b)` is none: it is read as `a^b`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Function {
            $(#[doc = $doc] $variant,)*
        }

        impl Function {
            /// All of them.
            pub const ALL: &[Function] = &[$(Function::$variant,)*];

            /// The name in an expression.
            pub fn name(self) -> &'static str {
                match self { $(Function::$variant => $name,)* }
            }

            /// How many arguments it takes.
            pub fn arity(self) -> usize {
                match self { $(Function::$variant => $arity,)* }
            }

            pub(super) fn latex(self) -> &'static str {
                match self { $(Function::$variant => $latex,)* }
            }
        }
    };
}

functions! {
    Sin "sin" 1 "\\sin" "Sine of an angle in radians."
    Cos "cos" 1 "\\cos" "Cosine."
    Tan "tan" 1 "\\tan" "Tangent."
    Asin "asin" 1 "\\arcsin" "Inverse sine."
    Acos "acos" 1 "\\arccos" "Inverse cosine."
    Atan "atan" 1 "\\arctan" "Inverse tangent."
    Sinh "sinh" 1 "\\sinh" "Hyperbolic sine."
    Cosh "cosh" 1 "\\cosh" "Hyperbolic cosine."
    Tanh "tanh" 1 "\\tanh" "Hyperbolic tangent."
    Exp "exp" 1 "\\exp" "eˣ."
    Expm1 "expm1" 1 "\\operatorname{expm1}" "eˣ − 1, exact near 0."
    Log "log" 1 "\\ln" "Natural logarithm; `ln` is the same."
    Log1p "log1p" 1 "\\operatorname{log1p}" "Natural logarithm of 1 + x, exact near 0."
    Log2 "log2" 1 "\\log_{2}" "Logarithm to base 2."
    Log10 "log10" 1 "\\log_{10}" "Logarithm to base 10."
    Sqrt "sqrt" 1 "\\sqrt" "Square root."
    Abs "abs" 1 "\\operatorname{abs}" "Absolute value."
    Sign "sign" 1 "\\operatorname{sign}" "−1, 0 or 1."
    Erf "erf" 1 "\\operatorname{erf}" "Error function."
    Sigmoid "sigmoid" 1 "\\sigma" "1 / (1 + e⁻ˣ)."
    Softplus "softplus" 1 "\\operatorname{softplus}" "log(1 + eˣ)."
    Relu "relu" 1 "\\operatorname{relu}" "max(x, 0)."
    Gelu "gelu" 1 "\\operatorname{gelu}" "x · Φ(x), Φ the normal distribution."
    Min "min" 2 "\\min" "The smaller of two."
    Max "max" 2 "\\max" "The larger of two."
}

impl Function {
    /// The function of this name.
    pub fn from_name(name: &str) -> Option<Function> {
        if name == "ln" {
            return Some(Function::Log);
        }
        Function::ALL.iter().copied().find(|function| function.name() == name)
    }

    /// Whether mathematicians write its powers as sin²(x).
    pub(super) fn power_before_argument(self) -> bool {
        use Function::*;
        matches!(self, Sin | Cos | Tan | Sinh | Cosh | Tanh)
    }
}

/// The name of the binary power, which is a function only in writing.
pub(super) const POW: &str = "pow";

/// The known function whose name is nearest to this one, if any is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let length = name.chars().count();
    if length > 12 {
        return None;
    }
    // What other languages call them is nearer than any spelling.
    let other = [("arcsin", "asin"), ("arccos", "acos"), ("arctan", "atan"), ("sgn", "sign"), ("logistic", "sigmoid")];
    if let Some((_, known)) = other.iter().find(|(other, _)| *other == name) {
        return Some(known);
    }
    let names = Function::ALL.iter().map(|function| function.name()).chain([POW, "ln"]);
    let allowed = if length <= 3 { 1 } else { 2 };
    let ranked = names.map(|known| (distance(&name, known), known));
    ranked.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + (a[i - 1] != b[j - 1]) as usize;
                let best = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(table[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    table[a.len()][b.len()]
}
