//! Measures convolutions and pooling at the shapes of small networks, beside a product of matrices in the same minute:
//! `cargo run --release -p chainrule-kernels --example convolutions [part of a name]`. Each line is the best of many runs
//! on two threads; work counts no multiplication with a zero of a dilation.

use chainrule_kernels::alphabet::{DType, Reduction};
use chainrule_kernels::*;
use std::time::Instant;

fn measure(name: &str, work: f64, mut f: impl FnMut()) {
    if std::env::args().nth(1).is_some_and(|part| !name.contains(&part)) {
        return;
    }
    let (mut best, begin) = (f64::MAX, Instant::now());
    while begin.elapsed().as_millis() < 700 {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{name:46} {:8.3} ms {:8.1} G/s", best * 1e3, work / best / 1e9);
}

/// Numbers between -1 and 1 that look random.
fn values(n: usize) -> Buffer {
    let number = |i: usize| (i as u32).wrapping_mul(0x9E37_79B9).rotate_left(13).wrapping_mul(0x85EB_CA6B) as i32;
    Buffer::from_slice(&(0..n).map(|i| number(i) as f32 / i32::MAX as f32).collect::<Vec<_>>())
}

/// A convolution of `x` and `w`, shapes as the kernel sees them; `turned` swaps the first two axes in memory.
fn convolve(pool: &Pool, name: &str, spec: &ConvSpec, shapes: [[usize; 4]; 2], turned: [bool; 2], results: usize) {
    let layout = |i: usize| {
        let [a, b, c, d] = shapes[i];
        match turned[i] {
            true => Layout::contiguous(&[b, a, c, d]).permuted(&[1, 0, 2, 3]),
            false => Layout::contiguous(&[a, b, c, d]),
        }
    };
    let (x, w) = (layout(0), layout(1));
    let sizes = spec.output_sizes(&x.shape()[2..], &w.shape()[2..]);
    let (bx, bw) = (values(x.numel()), values(w.numel()));
    let mut out = Buffer::zeroed(4 * x.shape()[0] * w.shape()[0] * sizes[0] * sizes[1]);
    let (vx, vw) = (View::new(bx.bytes(), DType::F32, &x), View::new(bw.bytes(), DType::F32, &w));
    let dilation: usize = spec.lhs_dilation.iter().product();
    let work = 2 * out.len_bytes() / 4 * w.shape()[1] * w.shape()[2] * w.shape()[3] / dilation;
    assert_eq!(sizes[0], results, "{name}");
    measure(name, work as f64, || conv(pool, spec, vx, vw, ViewMut::new(out.bytes_mut(), DType::F32)));
}

fn main() {
    let pool = &Pool::new(2);
    let square = Layout::contiguous(&[1024, 1024]);
    let (a, b, mut c) = (values(1 << 20), values(1 << 20), values(1 << 20));
    let view = |buffer| View::new(Buffer::bytes(buffer), DType::F32, &square);
    measure("product 1024×1024×1024", 2.0 * (1u64 << 30) as f64, || {
        matmul(pool, view(&a), view(&b), ViewMut::new(c.bytes_mut(), DType::F32))
    });
    let spec = |stride, low, high, input, kernel, groups| ConvSpec {
        stride: vec![stride; 2],
        pad_low: vec![low; 2],
        pad_high: vec![high; 2],
        lhs_dilation: vec![input; 2],
        rhs_dilation: vec![kernel; 2],
        groups,
    };
    let same = &spec(1, 1, 1, 1, 1, 1);
    let run = |name: &str, spec: &ConvSpec, x, w, turned, n| convolve(pool, name, spec, [x, w], turned, n);
    run("3×3 1→32", same, [64, 1, 28, 28], [32, 1, 3, 3], [false; 2], 28);
    run("3×3 1→32, weights", same, [1, 64, 28, 28], [32, 64, 28, 28], [true; 2], 3);
    run("3×3 32→64", same, [64, 32, 28, 28], [64, 32, 3, 3], [false; 2], 28);
    run("3×3 32→64, input", same, [64, 64, 28, 28], [32, 64, 3, 3], [false, true], 28);
    run("3×3 32→64, weights", same, [32, 64, 28, 28], [64, 64, 28, 28], [true; 2], 3);
    run("3×3 128→128 of 14×14", same, [64, 128, 14, 14], [128, 128, 3, 3], [false; 2], 14);
    run("3×3 depthwise 64", &spec(1, 1, 1, 1, 1, 64), [64, 64, 28, 28], [64, 1, 3, 3], [false; 2], 28);
    let down = &spec(2, 1, 1, 1, 1, 1);
    run("4×4/2 1→64", down, [64, 1, 28, 28], [64, 1, 4, 4], [false; 2], 14);
    run("4×4/2 64→128", down, [64, 64, 14, 14], [128, 64, 4, 4], [false; 2], 7);
    run("4×4/2 64→128, weights", &spec(1, 1, 1, 1, 2, 1), [64, 64, 14, 14], [128, 64, 7, 7], [true; 2], 4);
    run("4×4/2 1→64, weights", &spec(1, 1, 1, 1, 2, 1), [1, 64, 28, 28], [64, 64, 14, 14], [true; 2], 4);
    let up = &spec(1, 2, 2, 2, 1, 1);
    run("4×4·2 128→64", up, [64, 128, 7, 7], [64, 128, 4, 4], [false, true], 14);
    run("4×4·2 64→1", up, [64, 64, 14, 14], [1, 64, 4, 4], [false, true], 28);
    let back = &spec(1, 2, 2, 2, 1, 1);
    run("4×4·2 128→64, weights", back, [128, 64, 7, 7], [64, 64, 14, 14], [true; 2], 4);
    run("4×4·2 64→1, weights", back, [64, 64, 14, 14], [1, 64, 28, 28], [true; 2], 4);

    let (planes, window) = (64 * 64, [2, 2]);
    let (whole, small) = (Layout::contiguous(&[planes, 28, 28]), Layout::contiguous(&[planes, 14, 14]));
    let windows = Layout::new(0, [planes, 14, 14, 2, 2][..].into(), [784, 56, 2, 28, 1][..].into());
    let (x, g, mut m, mut r) =
        (values(whole.numel()), values(small.numel()), values(small.numel()), values(whole.numel()));
    let n = whole.numel() as f64;
    let over = View::new(x.bytes(), DType::F32, &windows);
    measure("max-pool 2×2", 5.0 * n, || {
        reduce(pool, Reduction::Max, over, &[3, 4], ViewMut::new(m.bytes_mut(), DType::F32))
    });
    measure("max-pool 2×2, input", 10.0 * n, || {
        let operands = [(&x, &whole), (&m, &small), (&g, &small)].map(|(b, l)| View::new(b.bytes(), DType::F32, l));
        max_pool_gradient(pool, operands, &window, &window, &[1, 1], ViewMut::new(r.bytes_mut(), DType::F32))
    });
}
