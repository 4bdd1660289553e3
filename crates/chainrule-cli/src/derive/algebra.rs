//! Scalar algebra for display: every value a sum of coefficients times products of powers.
//!
//! Building a sum or product here already collects like terms and factors, so equal values mostly become the same
//! [`Id`]. [`Algebra::simplify`] then chooses between expanded and factored forms whichever is shorter. Nothing here
//! differentiates and no number that is shown as a value is computed here. Forms hold in general position: where two
//! sides of a comparison are equal, or a power's base or exponent is 0, the engine's own value counts.

use std::collections::HashMap;

use super::ratio::Ratio;
use crate::expression::{Constant, Function};

/// Number of a value; equal forms have equal numbers.
pub type Id = u32;

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Form {
    /// A number.
    Number(Ratio),
    /// A name.
    Symbol(String),
    /// A named number.
    Constant(Constant),
    /// Coefficients times values without a coefficient, in order; not a single one with coefficient 1.
    Sum(Vec<(Ratio, Id)>),
    /// Bases to exponents, in order of the bases; eᵘ has the base e.
    Product(Vec<(Id, Id)>),
    /// A function of its arguments.
    Call(Function, Vec<Id>),
    /// 1 where left < right (or ≤ if the flag is set), otherwise 0.
    Less(Id, Id, bool),
}

/// Terms beyond which nothing is multiplied out.
const MOST_TERMS: usize = 200;
/// Terms beyond which a sum is only collected, not rearranged.
const MOST_ARRANGED: usize = 60;

/// How often a form is tried to be written shorter still.
const MOST_ROUNDS: usize = 4;

/// A table of forms.
pub struct Algebra {
    forms: Vec<Form>,
    costs: Vec<u64>,
    depths: Vec<u32>,
    numbered: HashMap<Form, Id>,
    simplified: HashMap<Id, Id>,
    /// Whether pairs of exponentials may be written as sinh and cosh.
    pub hyperbolic: bool,
}

impl Default for Algebra {
    fn default() -> Algebra {
        let mut algebra = Algebra {
            forms: Vec::new(),
            costs: Vec::new(),
            depths: Vec::new(),
            numbered: HashMap::new(),
            simplified: HashMap::new(),
            hyperbolic: false,
        };
        algebra.intern(Form::Number(Ratio::ZERO));
        algebra.intern(Form::Number(Ratio::ONE));
        algebra.intern(Form::Constant(Constant::E));
        algebra
    }
}

impl Algebra {
    /// 0
    pub const ZERO: Id = 0;
    /// 1
    pub const ONE: Id = 1;
    /// e
    pub const E: Id = 2;

    /// What a value is.
    pub fn form(&self, id: Id) -> &Form {
        &self.forms[id as usize]
    }

    /// How long it is when written out, in operations and names.
    pub fn cost(&self, id: Id) -> u64 {
        self.costs[id as usize]
    }

    /// How deeply it is nested.
    pub fn depth(&self, id: Id) -> u32 {
        self.depths[id as usize]
    }

    fn intern(&mut self, form: Form) -> Id {
        if let Some(&id) = self.numbered.get(&form) {
            return id;
        }
        let id = self.forms.len() as Id;
        self.costs.push(self.cost_of(&form));
        self.depths.push(1 + children(&form).iter().map(|&child| self.depth(child)).max().unwrap_or(0));
        self.forms.push(form.clone());
        self.numbered.insert(form, id);
        id
    }

    fn cost_of(&self, form: &Form) -> u64 {
        let coefficient = |c: &Ratio| match (c.value().abs(), c.parts().1) {
            (1.0, _) => 0,
            (_, 1.0) => 1,
            _ => 2,
        };
        match form {
            Form::Number(c) => 1 + coefficient(c) / 2,
            Form::Symbol(_) | Form::Constant(_) => 1,
            Form::Sum(terms) => terms.iter().fold(terms.len() as u64 - 1, |sum: u64, (c, id)| {
                let rest = if *id == Algebra::ONE { 1 } else { self.cost(*id).saturating_add(coefficient(c)) };
                sum.saturating_add(rest)
            }),
            Form::Product(factors) => factors.iter().fold(0, |sum: u64, (base, exponent)| {
                let exponent = match self.number(*exponent) {
                    Some(Ratio::ONE) => 0,
                    // A fraction bar, and an exponent if it is not 1.
                    Some(r) if r.whole().is_some() => (r.value() < 0.0) as u64 + (r.value() != -1.0) as u64,
                    _ => self.cost(*exponent),
                };
                // A sum among other factors needs parentheses.
                let parentheses = matches!(self.form(*base), Form::Sum(_)) as u64;
                sum.saturating_add(self.cost(*base) + parentheses).saturating_add(exponent)
            }),
            Form::Call(_, arguments) => arguments.iter().fold(1, |sum: u64, a| sum.saturating_add(self.cost(*a))),
            Form::Less(a, b, _) => self.cost(*a).saturating_add(self.cost(*b)),
        }
    }

    /// The number a value is, if it is one.
    pub fn number(&self, id: Id) -> Option<Ratio> {
        match self.form(id) {
            Form::Number(ratio) => Some(*ratio),
            _ => None,
        }
    }

    /// A number.
    pub fn of(&mut self, ratio: Ratio) -> Id {
        self.intern(Form::Number(ratio))
    }

    /// A name.
    pub fn symbol(&mut self, name: &str) -> Id {
        self.intern(Form::Symbol(name.into()))
    }

    /// A named number.
    pub fn constant(&mut self, constant: Constant) -> Id {
        self.intern(Form::Constant(constant))
    }

    /// The terms of a sum; of anything else, itself.
    pub fn terms(&self, id: Id) -> Vec<(Ratio, Id)> {
        match self.form(id) {
            Form::Number(ratio) if ratio.is_zero() => Vec::new(),
            Form::Number(ratio) => vec![(*ratio, Algebra::ONE)],
            Form::Sum(terms) => terms.clone(),
            _ => vec![(Ratio::ONE, id)],
        }
    }

    /// The factors of a value without coefficient.
    pub fn factors(&self, id: Id) -> Vec<(Id, Id)> {
        match self.form(id) {
            Form::Product(factors) => factors.clone(),
            Form::Number(Ratio::ONE) => Vec::new(),
            Form::Constant(Constant::E) => vec![(Algebra::E, Algebra::ONE)],
            _ => vec![(id, Algebra::ONE)],
        }
    }

    /// The coefficient and the rest, where the value is one term.
    fn split(&self, id: Id) -> (Ratio, Id) {
        match self.form(id) {
            Form::Number(ratio) => (*ratio, Algebra::ONE),
            Form::Sum(terms) if terms.len() == 1 => terms[0],
            _ => (Ratio::ONE, id),
        }
    }

    /// The sum of terms in any order.
    pub fn sum(&mut self, terms: impl IntoIterator<Item = (Ratio, Id)>) -> Id {
        let mut places: HashMap<Id, usize> = HashMap::new();
        let mut collected: Vec<(Ratio, Id)> = Vec::new();
        for (c, id) in terms {
            // A sum inside a sum is only terms.
            for (inner, id) in self.terms(id) {
                match places.get(&id) {
                    Some(&place) => collected[place].0 = collected[place].0 + c * inner,
                    None => {
                        places.insert(id, collected.len());
                        collected.push((c * inner, id));
                    }
                }
            }
        }
        collected.retain(|(c, _)| !c.is_zero());
        collected.sort_unstable_by_key(|(_, id)| *id);
        match collected[..] {
            [] => Algebra::ZERO,
            [(c, Algebra::ONE)] => self.of(c),
            [(Ratio::ONE, id)] => id,
            _ => self.intern(Form::Sum(collected)),
        }
    }

    /// a + b
    pub fn add(&mut self, a: Id, b: Id) -> Id {
        self.sum([(Ratio::ONE, a), (Ratio::ONE, b)])
    }

    /// a − b
    pub fn sub(&mut self, a: Id, b: Id) -> Id {
        self.sum([(Ratio::ONE, a), (Ratio::MINUS_ONE, b)])
    }

    /// c·a
    pub fn scale(&mut self, c: Ratio, a: Id) -> Id {
        self.sum([(c, a)])
    }

    /// a·b
    pub fn mul(&mut self, a: Id, b: Id) -> Id {
        self.product([(a, Algebra::ONE), (b, Algebra::ONE)])
    }

    /// a/b
    pub fn div(&mut self, a: Id, b: Id) -> Id {
        let over = self.of(Ratio::MINUS_ONE);
        self.product([(a, Algebra::ONE), (b, over)])
    }

    /// a to the power b.
    pub fn pow(&mut self, a: Id, b: Id) -> Id {
        self.product([(a, b)])
    }

    /// eᵃ
    pub fn exp(&mut self, a: Id) -> Id {
        self.product([(Algebra::E, a)])
    }

    /// The product of powers in any order.
    pub fn product(&mut self, powers: impl IntoIterator<Item = (Id, Id)>) -> Id {
        let mut coefficient = Ratio::ONE;
        let mut collected: Vec<(Id, Id)> = Vec::new();
        let mut todo: Vec<(Id, Id)> = powers.into_iter().collect();
        todo.reverse();
        while let Some((base, exponent)) = todo.pop() {
            let power = self.number(exponent);
            let whole = power.and_then(Ratio::whole);
            match (self.form(base).clone(), whole) {
                (_, Some(0.0)) | (Form::Number(Ratio::ONE), _) => {}
                (Form::Number(c), Some(n)) if n > 0.0 || !c.is_zero() => coefficient = coefficient * c.powi(n),
                (Form::Product(inner), Some(_)) => {
                    for (base, inner) in inner.into_iter().rev() {
                        let exponent = self.mul(inner, exponent);
                        todo.push((base, exponent));
                    }
                }
                // (eᵃ)ʳ = e^(r·a) for every real r.
                (Form::Product(inner), None) if inner.len() == 1 && inner[0].0 == Algebra::E => {
                    let exponent = self.mul(inner[0].1, exponent);
                    todo.push((Algebra::E, exponent));
                }
                (Form::Sum(terms), Some(n)) => {
                    let (content, rest) = self.primitive(terms);
                    coefficient = coefficient * content.powi(n);
                    match rest == base {
                        true => merge(self, &mut collected, base, exponent),
                        false => todo.push((rest, exponent)),
                    }
                }
                (Form::Call(Function::Abs, arguments), Some(n)) if n % 2.0 == 0.0 => {
                    todo.push((arguments[0], exponent))
                }
                (Form::Call(Function::Sign, _), Some(n)) if n % 2.0 == 0.0 => {}
                (Form::Less(a, b, or_equal), Some(n)) if n > 0.0 => {
                    // Of a < b and a ≤ b the first says both.
                    let other = self.less(a, b, !or_equal);
                    match collected.iter_mut().find(|(known, _)| *known == base || *known == other) {
                        Some((known, _)) if *known == other && !or_equal => *known = base,
                        Some(_) => {}
                        None => collected.push((base, Algebra::ONE)),
                    }
                }
                _ => merge(self, &mut collected, base, exponent),
            }
        }
        if coefficient.is_zero() || self.contradicts(&collected) {
            return Algebra::ZERO;
        }
        self.align_signs(&mut collected, &mut coefficient);
        collected.retain(|(_, exponent)| *exponent != Algebra::ZERO);
        collected.sort_unstable();
        let product = match collected[..] {
            [] => Algebra::ONE,
            [(base, Algebra::ONE)] => base,
            _ => self.intern(Form::Product(collected)),
        };
        self.scale(coefficient, product)
    }

    /// (x² − 1)ⁿ beside a broken power of 1 − x² becomes ±(1 − x²)ⁿ.
    fn align_signs(&mut self, collected: &mut [(Id, Id)], coefficient: &mut Ratio) {
        for broken in 0..collected.len() {
            let (base, power) = collected[broken];
            let is_broken = self.number(power).is_some_and(|power| power.whole().is_none());
            if !is_broken || !matches!(self.form(base), Form::Sum(_)) {
                continue;
            }
            let opposite = self.scale(Ratio::MINUS_ONE, base);
            let Some(place) = collected.iter().position(|(known, _)| *known == opposite) else { continue };
            if let Some(whole) = self.number(collected[place].1).and_then(Ratio::whole) {
                *coefficient = *coefficient * Ratio::MINUS_ONE.powi(whole);
                collected[broken].1 = self.add(power, collected[place].1);
                collected[place].1 = Algebra::ZERO;
            }
        }
    }

    /// Sums under one exponent multiplied out: 1/((x + 1)(x − 1)) is 1/(x² − 1).
    fn united(&mut self, id: Id) -> Id {
        let (c, term) = self.split(id);
        let mut factors = self.factors(term);
        let mut place = 0;
        while place < factors.len() {
            let (base, power) = factors[place];
            let sum = matches!(self.form(base), Form::Sum(_)) && self.number(power).and_then(Ratio::whole).is_some();
            let twin = (place + 1..factors.len())
                .find(|&i| sum && factors[i].1 == power && matches!(self.form(factors[i].0), Form::Sum(_)));
            let Some(twin) = twin else {
                place += 1;
                continue;
            };
            let product = self.mul(base, factors[twin].0);
            let expanded = self.expand(product);
            if self.cost(expanded) >= self.cost(product) {
                place += 1;
                continue;
            }
            factors.remove(twin);
            factors[place].0 = expanded;
        }
        let product = self.product(factors);
        self.scale(c, product)
    }

    /// Whether conditions exclude each other: a < b and b < a.
    fn contradicts(&self, factors: &[(Id, Id)]) -> bool {
        factors.iter().any(|(one, _)| match self.form(*one) {
            Form::Less(a, b, _) => {
                factors.iter().any(|(other, _)| matches!(self.form(*other), Form::Less(c, d, _) if (a, b) == (d, c)))
            }
            _ => false,
        })
    }

    /// A sum as its content (the common whole divisor, with the sign of its first term) times the rest.
    fn primitive(&mut self, terms: Vec<(Ratio, Id)>) -> (Ratio, Id) {
        if let [(c, id)] = terms[..] {
            return (c, id);
        }
        let mut divisor = 0.0;
        let mut denominator = 1.0;
        for (c, _) in &terms {
            let (n, d) = c.parts();
            if n.fract() != 0.0 || n.abs() > 1e12 || d * denominator > 1e12 {
                (divisor, denominator) = (1.0, 1.0);
                break;
            }
            divisor = gcd(divisor, n.abs());
            denominator *= d / gcd(denominator, d);
        }
        let variable = terms.iter().find(|(_, id)| *id != Algebra::ONE).unwrap_or(&terms[0]);
        let content = Ratio::new(divisor.max(1.0).copysign(variable.0.value()), denominator);
        let rest = self.sum(terms.into_iter().map(|(c, id)| (c / content, id)));
        (content, rest)
    }

    /// A function of arguments; those that are only other notation become that.
    pub fn call(&mut self, function: Function, arguments: Vec<Id>) -> Id {
        let a = arguments[0];
        match function {
            Function::Exp => self.exp(a),
            Function::Expm1 => {
                let e = self.exp(a);
                self.sub(e, Algebra::ONE)
            }
            Function::Sqrt => {
                let half = self.of(Ratio::HALF);
                self.pow(a, half)
            }
            Function::Tan => {
                let cos = self.call(Function::Cos, vec![a]);
                let sin = self.call(Function::Sin, vec![a]);
                self.div(sin, cos)
            }
            Function::Log => match (self.form(a), &self.factors(a)[..]) {
                (Form::Number(Ratio::ONE), _) => Algebra::ZERO,
                (_, &[(Algebra::E, exponent)]) => exponent,
                _ => self.intern(Form::Call(function, arguments)),
            },
            Function::Sin | Function::Tanh | Function::Erf | Function::Atan | Function::Sinh if a == Algebra::ZERO => a,
            Function::Cos | Function::Cosh if a == Algebra::ZERO => Algebra::ONE,
            Function::Sign => match self.number(a) {
                Some(n) if n.is_zero() => a,
                Some(n) => self.of(Ratio::new(n.value().signum(), 1.0)),
                None => self.intern(Form::Call(function, arguments)),
            },
            _ => self.intern(Form::Call(function, arguments)),
        }
    }

    /// 1 where a < b, or a ≤ b, otherwise 0.
    pub fn less(&mut self, a: Id, b: Id, or_equal: bool) -> Id {
        match (self.number(a), self.number(b)) {
            _ if a == b => or_equal as Id,
            (Some(a), Some(b)) => (a < b || or_equal && a == b) as Id,
            _ => self.intern(Form::Less(a, b, or_equal)),
        }
    }

    /// 1 − a for a condition a.
    pub fn not(&mut self, a: Id) -> Id {
        match *self.form(a) {
            Form::Less(a, b, or_equal) => self.less(b, a, !or_equal),
            _ => self.sub(Algebra::ONE, a),
        }
    }

    /// a where the condition holds, otherwise b.
    pub fn select(&mut self, condition: Id, a: Id, b: Id) -> Id {
        let otherwise = self.not(condition);
        let a = self.mul(condition, a);
        let b = self.mul(otherwise, b);
        self.add(a, b)
    }

    /// The shortest form of a value that is found, its parts first.
    pub fn simplify(&mut self, root: Id) -> Id {
        if let Some(&known) = self.simplified.get(&root) {
            return known;
        }
        let rebuilt = match self.form(root).clone() {
            Form::Number(_) | Form::Symbol(_) | Form::Constant(_) => root,
            Form::Sum(terms) => {
                let terms: Vec<_> = terms.into_iter().map(|(c, id)| (c, self.simplify(id))).collect();
                self.sum(terms)
            }
            Form::Product(factors) => {
                let factors: Vec<_> =
                    factors.into_iter().map(|(base, power)| (self.simplify(base), self.simplify(power))).collect();
                self.product(factors)
            }
            Form::Call(function, arguments) => {
                let arguments = arguments.into_iter().map(|argument| self.simplify(argument)).collect();
                self.call(function, arguments)
            }
            Form::Less(a, b, or_equal) => {
                let (a, b) = (self.simplify(a), self.simplify(b));
                self.less(a, b, or_equal)
            }
        };
        let mut best = rebuilt;
        for _ in 0..MOST_ROUNDS {
            let next = self.shortest(best);
            if next == best {
                break;
            }
            best = next;
        }
        self.simplified.insert(root, best);
        self.simplified.insert(best, best);
        best
    }

    fn shortest(&mut self, id: Id) -> Id {
        if !matches!(self.form(id), Form::Sum(_) | Form::Product(_)) || self.terms(id).len() > MOST_ARRANGED {
            return id;
        }
        let mut candidates = vec![id];
        let expanded = self.expand(id);
        let united = self.united(id);
        candidates.extend([expanded, united]);
        for form in [id, expanded] {
            let squares = [
                self.without_squares(form, Function::Cos, Function::Sin),
                self.without_squares(form, Function::Sin, Function::Cos),
            ];
            candidates.extend(squares);
            if self.hyperbolic {
                let paired = self.paired(form);
                candidates.push(paired);
            }
        }
        for form in candidates.clone() {
            for together in [false, true] {
                let factored = self.factored(form, together);
                candidates.push(factored);
            }
        }
        // Of forms of one length the factored one is read more easily.
        let length = |&candidate: &Id| (self.cost(candidate), !matches!(self.form(candidate), Form::Product(_)));
        candidates.into_iter().min_by_key(length).unwrap_or(id)
    }

    /// All products of sums multiplied out, unless that makes too many terms.
    fn expand(&mut self, id: Id) -> Id {
        let mut out = Vec::new();
        for (c, term) in self.terms(id) {
            let expanded = self.expand_term(term);
            out.push((c, expanded));
            if out.len() > MOST_TERMS {
                return id;
            }
        }
        self.sum(out)
    }

    fn expand_term(&mut self, term: Id) -> Id {
        let mut terms: Vec<(Ratio, Id)> = vec![(Ratio::ONE, Algebra::ONE)];
        for (base, exponent) in self.factors(term) {
            let whole = self.number(exponent).and_then(Ratio::whole).filter(|n| (1.0..=8.0).contains(n));
            match (self.form(base).clone(), whole) {
                (Form::Sum(inner), Some(n)) => {
                    for _ in 0..n as usize {
                        if terms.len() * inner.len() > MOST_TERMS {
                            return term;
                        }
                        let mut next = Vec::with_capacity(terms.len() * inner.len());
                        for &(c, left) in &terms {
                            for &(d, right) in &inner {
                                let product = self.mul(left, right);
                                next.push((c * d, product));
                            }
                        }
                        let collected = self.sum(next);
                        terms = self.terms(collected);
                    }
                }
                _ => {
                    for (_, left) in &mut terms {
                        *left = self.product([(*left, Algebra::ONE), (base, exponent)]);
                    }
                }
            }
        }
        self.sum(terms)
    }

    /// A sum with what its terms share taken out: powers that all have or, `together`, also common denominators.
    fn factored(&mut self, id: Id, together: bool) -> Id {
        let terms = self.terms(id);
        if terms.len() < 2 {
            return id;
        }
        let lists: Vec<Vec<(Id, Id)>> = terms.iter().map(|(_, term)| self.factors(*term)).collect();
        let mut bases: Vec<Id> = lists.iter().flatten().map(|(base, _)| *base).collect();
        bases.sort_unstable();
        bases.dedup();
        let mut shared: Vec<(Id, Id)> = Vec::new();
        for base in bases {
            let exponents: Vec<Option<Id>> = lists
                .iter()
                .map(|list| list.iter().find(|(known, _)| *known == base).map(|(_, exponent)| *exponent))
                .collect();
            if let Some(first) = exponents[0]
                && exponents.iter().all(|exponent| *exponent == Some(first))
            {
                shared.push((base, first));
                continue;
            }
            if base == Algebra::E || !together && exponents.contains(&None) {
                continue;
            }
            let numbers: Option<Vec<Ratio>> =
                exponents.iter().map(|exponent| exponent.map_or(Some(Ratio::ZERO), |id| self.number(id))).collect();
            let least = numbers.into_iter().flatten().reduce(|a, b| if b < a { b } else { a });
            if let Some(least) = least.filter(|least| !least.is_zero()) {
                let least = self.of(least);
                shared.push((base, least));
            }
        }
        if shared.is_empty() {
            return id;
        }
        let inner: Vec<(Ratio, Id)> = terms
            .iter()
            .zip(lists)
            .map(|(&(c, _), mut list)| {
                for &(base, power) in &shared {
                    let place = list.iter().position(|(known, _)| *known == base);
                    let before = place.map_or(Algebra::ZERO, |place| list.remove(place).1);
                    let rest = self.sub(before, power);
                    list.push((base, rest));
                }
                (c, self.product(list))
            })
            .collect();
        let inner = self.sum(inner);
        let inner = if together { self.expand(inner) } else { inner };
        let inner = self.shortest(inner);
        let product = shared.into_iter().chain([(inner, Algebra::ONE)]);
        self.product(product)
    }

    /// A sum with f² written as 1 − g², where f² + g² = 1.
    fn without_squares(&mut self, id: Id, f: Function, g: Function) -> Id {
        let mut out = Vec::new();
        let mut changed = false;
        let two = self.of(Ratio::new(2.0, 1.0));
        for (c, term) in self.terms(id) {
            let square = self.factors(term).into_iter().find_map(|(base, exponent)| match self.form(base) {
                Form::Call(function, arguments) if *function == f => {
                    let n = self.number(exponent)?.whole()?;
                    (n >= 2.0).then(|| (base, arguments[0]))
                }
                _ => None,
            });
            let Some((base, argument)) = square else {
                out.push((c, term));
                continue;
            };
            changed = true;
            let minus_two = self.of(Ratio::new(-2.0, 1.0));
            let rest = self.product([(term, Algebra::ONE), (base, minus_two)]);
            let other = self.call(g, vec![argument]);
            let other = self.product([(rest, Algebra::ONE), (other, two)]);
            out.extend([(c, rest), (-c, other)]);
        }
        if changed { self.sum(out) } else { id }
    }

    /// A sum with (eᵘ + e⁻ᵘ)/2 written as cosh u, and the difference as sinh u.
    fn paired(&mut self, id: Id) -> Id {
        let mut terms = self.terms(id);
        let mut out = Vec::new();
        while let Some((c, term)) = terms.pop() {
            let power = self.factors(term).into_iter().find(|(base, _)| *base == Algebra::E).map(|(_, power)| power);
            let Some(power) = power.filter(|&power| self.number(power).is_none()) else {
                out.push((c, term));
                continue;
            };
            let opposite = self.scale(Ratio::new(-2.0, 1.0), power);
            let mirrored = self.product([(term, Algebra::ONE), (Algebra::E, opposite)]);
            let partner = terms.iter().position(|&(d, other)| other == mirrored && (d == c || d == -c));
            let Some(place) = partner else {
                out.push((c, term));
                continue;
            };
            let (d, _) = terms.remove(place);
            let minus = self.scale(Ratio::MINUS_ONE, power);
            let rest = self.product([(term, Algebra::ONE), (Algebra::E, minus)]);
            // e⁻ᵘ first means that the sinh is that of −u.
            let positive = self.split(power).0.value() > 0.0;
            let argument = if positive { power } else { minus };
            let function = if d == c { Function::Cosh } else { Function::Sinh };
            let sign = if d == c || positive { Ratio::ONE } else { Ratio::MINUS_ONE };
            let call = self.call(function, vec![argument]);
            let product = self.mul(rest, call);
            out.push((c * sign * Ratio::new(2.0, 1.0), product));
        }
        self.sum(out)
    }
}

fn merge(algebra: &mut Algebra, collected: &mut Vec<(Id, Id)>, base: Id, exponent: Id) {
    match collected.iter().position(|(known, _)| *known == base) {
        Some(place) => collected[place].1 = algebra.add(collected[place].1, exponent),
        None => collected.push((base, exponent)),
    }
}

fn gcd(mut a: f64, mut b: f64) -> f64 {
    while b > 0.0 {
        (a, b) = (b, a % b);
    }
    a
}

fn children(form: &Form) -> Vec<Id> {
    match form {
        Form::Number(_) | Form::Symbol(_) | Form::Constant(_) => Vec::new(),
        Form::Sum(terms) => terms.iter().map(|(_, id)| *id).collect(),
        Form::Product(factors) => factors.iter().flat_map(|&(base, exponent)| [base, exponent]).collect(),
        Form::Call(_, arguments) => arguments.clone(),
        Form::Less(a, b, _) => vec![*a, *b],
    }
}
