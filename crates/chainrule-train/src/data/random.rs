//! Random numbers of data: a generator is made of the numbers it stands for (seed, epoch, example, purpose), so that
//! whatever is drawn for an example is the same in any order, on any thread, and after any restart.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator that begins at this state.
    pub(crate) fn from_state(state: u64) -> Random {
        Random(state)
    }

    /// The generator that stands for these numbers: each is mixed in after the others.
    pub(crate) fn of(numbers: &[u64]) -> Random {
        let mixed = numbers.iter().fold(0x243f_6a88_85a3_08d3, |state: u64, &number| {
            Random(state ^ number.wrapping_mul(0xd134_2543_de82_ef95)).next()
        });
        Random(mixed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; the bias of at most bound/2⁶⁴ is accepted.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// An index below `bound`, which must not be 0.
    pub(crate) fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// From 0 up to, but without, 1; all 53 bits of a double.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Shuffles (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.index(last + 1));
        }
    }

    /// The numbers below `count` in random order.
    pub(crate) fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        self.shuffle(&mut order);
        order
    }

    /// Standard normal (Box and Muller, 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Gamma(shape, 1) (Marsaglia and Tsang, 2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let power = (1.0 - self.uniform()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * power;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Beta(a, b); where both gammas vanish, which tiny parameters bring about, a fair 0 or 1.
    pub(crate) fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        if x + y > 0.0 { x / (x + y) } else { (self.next() >> 63) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_64_gives_its_published_numbers() {
        let mut random = Random::from_state(1234567);
        assert_eq!([random.next(), random.next()], [6457827717110365317, 3203168211198807973]);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        type Sample = fn(&mut Random) -> f64;
        let rows: [(&str, Sample, f64, f64); 5] = [
            ("uniform", |r| r.uniform(), 0.5, 1.0 / 12.0),
            ("normal", |r| r.normal(), 0.0, 1.0),
            ("beta(0.2, 0.2)", |r| r.beta(0.2, 0.2), 0.5, 0.25 / 1.4),
            ("beta(2, 3)", |r| r.beta(2.0, 3.0), 0.4, 0.04),
            ("below 10", |r| r.index(10) as f64, 4.5, 8.25),
        ];
        let mut wrong = Vec::new();
        for (name, sample, mean, variance) in rows {
            let n = 40_000;
            // Each number from a generator of its own, as examples draw them.
            let values: Vec<f64> = (0..n).map(|i| sample(&mut Random::of(&[7, 1, i]))).collect();
            let m = values.iter().sum::<f64>() / n as f64;
            let v = values.iter().map(|x| (x - m).powi(2)).sum::<f64>() / n as f64;
            let near = |found: f64, right: f64| (found - right).abs() < 5.0 * variance.sqrt() / (n as f64).sqrt();
            if !near(m, mean) || (v / variance - 1.0).abs() > 0.05 {
                wrong.push(format!("{name}: mean {m}, variance {v}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn each_number_counts_and_so_does_their_order() {
        let first = |numbers: &[u64]| Random::of(numbers).next();
        let all = [first(&[0, 0, 0]), first(&[1, 0, 0]), first(&[0, 1, 0]), first(&[0, 0, 1]), first(&[0, 0])];
        assert!((0..all.len()).all(|a| (0..a).all(|b| all[a] != all[b])), "{all:?}");
    }
}
