//! One axis: which values it spans, where a value lies on it, and where its ticks are.

use super::Scale;

/// Values beyond this are drawn here, so that no difference of two overflows.
const LARGEST: f64 = 1e300;
/// The ratio of largest to smallest from which [`Scale::Auto`] turns logarithmic.
const WIDE: f64 = 20.0;

/// A tick: a line across the panel, with a label unless it is a minor one.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Where it lies, from 0 to 1 along the axis.
    pub at: f64,
    /// What stands beside it; empty for a minor one.
    pub label: String,
}

/// The span of values, in their own measure or as powers of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    percent: bool,
}

impl Axis {
    /// An axis over the finite ones of these values. `padding` is the share of the span left free at either end.
    pub fn over(values: impl Iterator<Item = f64>, scale: Scale, padding: f64) -> Axis {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            let value = value.clamp(-LARGEST, LARGEST);
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let positive = low >= f64::MIN_POSITIVE;
        let log = positive && (scale == Scale::Log || scale == Scale::Auto && high / low > WIDE);
        if log {
            (low, high) = (low.log10(), high.log10());
        }
        if high - low <= f64::EPSILON * high.abs().max(low.abs()).max(f64::MIN_POSITIVE) {
            let around = if low == 0.0 || log { 0.5 } else { low.abs() * 0.1 };
            let around = around.max(f64::MIN_POSITIVE);
            (low, high) = (low - around, high + around);
        }
        let free = (high - low) * padding;
        Axis { low: low - free, high: high + free, log, percent: scale == Scale::Percent }
    }

    /// Where a finite value lies, from 0 at the low end to 1 at the high end.
    pub fn at(&self, value: f64) -> f64 {
        let value = value.clamp(-LARGEST, LARGEST);
        let value = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Ticks at round values, about `wanted` of them with labels.
    pub fn ticks(&self, wanted: usize) -> Vec<Tick> {
        let span = self.high - self.low;
        match self.log {
            true if span < 0.7 => self.linear_ticks(10f64.powf(self.low), 10f64.powf(self.high), wanted),
            true => self.log_ticks(wanted),
            false => self.linear_ticks(self.low, self.high, wanted),
        }
    }

    fn linear_ticks(&self, low: f64, high: f64, wanted: usize) -> Vec<Tick> {
        let raw = (high - low) / wanted as f64;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= raw * 0.999);
        let Some(step) = step.filter(|step| step.is_normal()) else { return Vec::new() };
        let largest = low.abs().max(high.abs());
        let first = (low / step).ceil();
        let values = (0..=2 * wanted).map(|at| (first + at as f64) * step);
        values
            .take_while(|&value| value <= high)
            .filter(|&value| !self.percent || (-1e-9..=1.0 + 1e-9).contains(&value))
            .map(|value| {
                let label = if self.percent { percent(value, step) } else { plain(value, step, largest) };
                Tick { at: self.at(value), label }
            })
            .collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<Tick> {
        let decades = self.high - self.low;
        let every = (decades / wanted as f64).ceil().max(1.0) as i64;
        let labelled: &[i64] = if decades < 1.5 {
            &[1, 2, 5]
        } else if decades < 2.5 {
            &[1, 3]
        } else {
            &[1]
        };
        let mut ticks = Vec::new();
        for exponent in self.low.floor() as i64..=self.high.ceil() as i64 {
            for digit in 1..10 {
                let at = (exponent as f64 + (digit as f64).log10() - self.low) / decades;
                let labelled = labelled.contains(&digit) && exponent % every == 0;
                if !(0.0..=1.0).contains(&at) || (every > 1 && !labelled) {
                    continue;
                }
                let label = if labelled { power_of_ten(digit, exponent) } else { String::new() };
                ticks.push(Tick { at, label });
            }
        }
        ticks
    }
}

/// A value for the legend: four digits.
pub fn value(value: f64, scale: Scale) -> String {
    match scale {
        _ if !value.is_finite() => "not finite".into(),
        Scale::Percent => format!("{:.2} %", 100.0 * value),
        _ if value == 0.0 => "0".into(),
        _ if (1e-3..1e5).contains(&value.abs()) => {
            let decimals = (3 - value.abs().log10().floor() as i64).clamp(0, 6) as usize;
            format!("{value:.decimals$}").replace('-', "−")
        }
        _ => scientific(value, 2),
    }
}

/// A whole number with its digits in groups of three, any other with what it needs: for a step.
pub fn step(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { grouped(value as i64) } else { scientific(value, 3) }
}

fn plain(value: f64, step: f64, largest: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    if largest >= 1e15 || decimals > 4 {
        let digits = (largest.log10().floor() - step.log10().floor()).clamp(0.0, 15.0) as usize;
        return if value == 0.0 { "0".into() } else { scientific(value, digits) };
    }
    if decimals == 0 { grouped(value.round() as i64) } else { format!("{value:.decimals$}").replace('-', "−") }
}

fn percent(value: f64, step: f64) -> String {
    let decimals = (-(100.0 * step).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{:.decimals$} %", 100.0 * value)
}

fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = if value < 0 { "−".to_string() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn scientific(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    format!("{}×10{}", mantissa.replace('-', "−"), superscript(exponent))
}

fn power_of_ten(digit: i64, exponent: i64) -> String {
    match exponent {
        -3..0 => format!("{:.*}", -exponent as usize, digit as f64 * 10f64.powi(exponent as i32)),
        0..=4 => grouped(digit * 10i64.pow(exponent as u32)),
        _ if digit == 1 => format!("10{}", superscript(&exponent.to_string())),
        _ => format!("{digit}×10{}", superscript(&exponent.to_string())),
    }
}

fn superscript(number: &str) -> String {
    let raised = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    number.chars().map(|c| c.to_digit(10).map_or('⁻', |digit| raised[digit as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], scale: Scale) -> String {
        let ticks = Axis::over(values.iter().copied(), scale, 0.0).ticks(5);
        let labels: Vec<_> = ticks.into_iter().map(|tick| tick.label).filter(|label| !label.is_empty()).collect();
        labels.join(" ")
    }

    #[test]
    fn ticks_are_round() {
        let cases: [(&[f64], Scale, &str); 11] = [
            (&[0.0, 10.0], Scale::Auto, "0 2 4 6 8 10"),
            (&[0.0, 30000.0], Scale::Linear, "0 10,000 20,000 30,000"),
            (&[-1.0, 1.0], Scale::Linear, "−1.0 −0.5 0.0 0.5 1.0"),
            (&[0.0, 1e-7], Scale::Linear, "0 2×10⁻⁸ 4×10⁻⁸ 6×10⁻⁸ 8×10⁻⁸ 1×10⁻⁷"),
            (&[0.9, 1.0], Scale::Percent, "90 % 92 % 94 % 96 % 98 % 100 %"),
            (&[0.99, 0.995], Scale::Percent, "99.0 % 99.1 % 99.2 % 99.3 % 99.4 % 99.5 %"),
            (&[0.01, 10.0], Scale::Auto, "0.01 0.1 1 10"),
            (&[1e-9, 1e9], Scale::Auto, "10⁻⁸ 10⁻⁴ 1 10,000 10⁸"),
            (&[0.5, 12.0], Scale::Log, "0.5 1 2 5 10"),
            (&[0.0, 1000.0], Scale::Log, "0 200 400 600 800 1,000"),
            (&[2.0, 3.0], Scale::Log, "2.0 2.2 2.4 2.6 2.8 3.0"),
        ];
        for (values, scale, expected) in cases {
            assert_eq!(labels(values, scale), expected, "{values:?} {scale:?}");
        }
    }

    #[test]
    fn values_are_short() {
        let shown = |v| value(v, Scale::Auto);
        assert_eq!([0.0, 0.012345, 2.5, 123456.0, -3e-9].map(shown), ["0", "0.01235", "2.500", "1.23×10⁵", "−3×10⁻⁹"]);
        assert_eq!([step(1234567.0), step(0.5)], ["1,234,567", "5×10⁻¹"]);
    }
}
