//! Rows of the table: activations, windows and convolutions, loops, branches and calls.

use super::Values;
use super::rows::{Table, any, conv, distinct, fold, index, operand};
use chainrule::prelude::*;

pub fn activations(t: &mut Table) {
    let (all, signed) = (Values::Within(-1.5, 1.5), Values::Signed(0.2, 1.5));
    t.unary("relu", signed, |x| x.relu() + x * 0.1);
    t.unary("leaky_relu", signed, |x| x.leaky_relu(0.1));
    t.unary("elu", signed, |x| x.elu(1.3));
    t.unary("selu", signed, |x| x.selu());
    t.unary("celu", signed, |x| x.celu(1.3));
    t.unary("gelu", Values::Within(0.0, 2.0), |x| x.gelu());
    t.unary("gelu_tanh", Values::Within(0.0, 2.0), |x| x.gelu_tanh());
    t.unary("silu", Values::Within(0.0, 2.0), |x| x.silu());
    t.unary("mish", Values::Within(0.0, 2.0), |x| x.mish());
    t.unary("softplus", all, |x| x.softplus());
    t.unary("log_sigmoid", all, |x| x.log_sigmoid());
    t.unary("softsign", signed, |x| x.softsign());
    t.unary("hard_tanh", Values::Signed(1.2, 2.0), |x| (x * 0.5).hard_tanh() + x.hard_tanh());
    t.unary("hard_sigmoid", Values::Signed(0.2, 2.0), |x| x.hard_sigmoid() + (x * 20.0).hard_sigmoid());
    t.binary("prelu", [signed, all], |x, slope| x.prelu(slope));
    t.row("glu", &[any(&[2, 6])], |x| x[0].glu(1));
    t.row("cross_entropy", &[any(&[5, 4]), index(&[5], 4)], |x| x[0].cross_entropy(&x[1]));
    t.row("cross_entropy of long rows", &[any(&[2, 700]), index(&[2], 700)], |x| {
        x[0].cross_entropy(&x[1]) + x[0].mean(..)
    });
    t.row("mean_squared_error", &[any(&[2, 3]), any(&[2, 3])], |x| x[0].mean_squared_error(&x[1]));
    t.row("softmax wide", &[any(&[200, 300])], |x| x[0].softmax(1)).wide = true;
    t.row("layer norm", &[any(&[3, 8]), any(&[8]), any(&[8])], |x| x[0].normalize(-1, 1e-3) * &x[1] + &x[2]);
    t.row("attention", &[any(&[2, 3, 4]), any(&[2, 5, 4]), any(&[2, 5, 3])], |x| {
        (x[0].matmul(&x[1].t()) * 0.5).softmax(-1).matmul(&x[2])
    });
}

pub fn windows(t: &mut Table) {
    type Conv =
        (&'static [usize], &'static [usize], &'static [usize], &'static [(isize, isize)], [&'static [usize]; 2], usize);
    let convs: [Conv; 14] = [
        (&[2, 3, 7], &[4, 3, 3], &[1], &[(0, 0)], [&[1], &[1]], 1),
        (&[2, 3, 7], &[4, 3, 3], &[2], &[(1, 2)], [&[1], &[2]], 1),
        (&[1, 4, 6], &[6, 2, 3], &[1], &[(1, 1)], [&[2], &[1]], 2),
        (&[2, 2, 9], &[2, 2, 3], &[3], &[(-1, -2)], [&[1], &[1]], 1),
        (&[2, 2, 5], &[3, 2, 2], &[2], &[(2, -1)], [&[3], &[2]], 1),
        (&[1, 1, 1], &[1, 1, 1], &[1], &[(0, 0)], [&[1], &[1]], 1),
        (&[2, 2, 2], &[2, 2, 3], &[1], &[(0, 0)], [&[1], &[1]], 1),
        (&[0, 2, 5], &[3, 2, 2], &[1], &[(0, 0)], [&[1], &[1]], 1),
        (&[2, 2, 5, 6], &[3, 2, 3, 2], &[1, 1], &[(1, 1), (0, 1)], [&[1, 1], &[1, 1]], 1),
        (&[2, 4, 6, 6], &[4, 2, 3, 3], &[2, 1], &[(1, 1), (1, 0)], [&[1, 1], &[1, 2]], 2),
        (&[2, 3, 5, 5], &[3, 1, 3, 3], &[1, 1], &[(1, 1), (1, 1)], [&[1, 1], &[1, 1]], 3),
        (&[2, 3, 4, 4], &[5, 3, 1, 1], &[1, 1], &[(0, 0), (0, 0)], [&[1, 1], &[1, 1]], 1),
        (&[1, 2, 4, 4, 3], &[3, 2, 2, 2, 2], &[1, 2, 1], &[(0, 0), (1, 1), (0, 1)], [&[1, 1, 1], &[1, 1, 1]], 1),
        (&[2, 2, 3, 4], &[2, 2, 3, 2], &[2, 2], &[(2, 2), (1, 1)], [&[2, 3], &[1, 2]], 1),
    ];
    for (x, kernel, stride, padding, dilation, groups) in convs {
        let name =
            format!("conv {x:?}{kernel:?} stride {stride:?} padding {padding:?} dilation {dilation:?} groups {groups}");
        t.row(name, &[any(x), any(kernel)], move |x| conv(&x[0], &x[1], stride, padding, dilation, groups));
    }
    t.row("conv of a transpose", &[any(&[5, 4, 2, 3]), any(&[2, 3, 2, 2])], |x| {
        let x0 = x[0].permute([2, 3, 0, 1]);
        conv(&x0, &x[1], &[1, 1], &[(0, 0), (0, 0)], [&[1, 1], &[1, 1]], 1)
    });
    let wide = [any(&[4, 16, 20, 20]), any(&[24, 16, 3, 3])];
    t.row("conv wide", &wide, |x| conv(&x[0], &x[1], &[1, 1], &[(1, 1), (1, 1)], [&[1, 1], &[1, 1]], 1)).wide = true;
    let wide = [any(&[4, 16, 20, 20]), any(&[16, 1, 3, 3])];
    t.row("conv wide depthwise", &wide, |x| conv(&x[0], &x[1], &[2, 2], &[(1, 1), (1, 1)], [&[1, 1], &[1, 1]], 16))
        .wide = true;
    for (stride, groups, extra) in [(1, 1, 0), (2, 1, 1), (2, 2, 0)] {
        let kernel = any(&[4, 6 / groups, 3, 2]);
        t.row(format!("conv_transpose stride {stride} groups {groups}"), &[any(&[2, 4, 3, 4]), kernel], move |x| {
            let options = Convolution { stride: vec![stride], padding: Padding::Both(1), groups, ..Default::default() };
            x[0].conv_transpose(&x[1], &options, &[extra])
        });
    }
    type Window = (&'static [usize], &'static [usize], &'static [usize], &'static [usize]);
    let windows: [Window; 6] = [
        (&[7], &[3], &[1], &[1]),
        (&[2, 9], &[3], &[2], &[2]),
        (&[2, 5, 6], &[2, 3], &[1, 2], &[2, 1]),
        (&[1, 2, 6, 6], &[2, 2], &[2, 2], &[1, 1]),
        (&[2, 2], &[3], &[1], &[1]),
        (&[1], &[1], &[1], &[1]),
    ];
    for (shape, window, stride, dilation) in windows {
        t.row(format!("windows {window:?} by {stride:?} over {shape:?}"), &[any(shape)], move |x| {
            x[0].windows(window, stride, dilation)
        });
        let space = shape.len() - window.len();
        let unfolded = Tensor::zeros(shape, DType::F32).windows(window, stride, dilation).shape().to_vec();
        let size = &shape[space..];
        t.row(format!("fold {window:?} by {stride:?} over {shape:?}"), &[any(&unfolded)], move |x| {
            fold(&x[0], size, window, stride, dilation) + 0.5
        });
    }
    let pooling = Pooling { window: vec![3, 2], stride: vec![2], padding: vec![1, 0], dilation: vec![1] };
    let (max, avg) = (pooling.clone(), pooling);
    t.row("max_pool", &[distinct(&[2, 2, 5, 6])], move |x| x[0].max_pool(&max));
    t.row("avg_pool", &[any(&[2, 2, 5, 6])], move |x| x[0].avg_pool(&avg));
    t.row("max_pool 2", &[distinct(&[1, 2, 4, 4])], |x| x[0].max_pool(&Pooling::new(2)));
    t.row("avg_pool in one dimension", &[any(&[1, 2, 6])], |x| x[0].avg_pool(&Pooling::new(3)));
}

pub fn control(t: &mut Table) {
    for (length, reverse) in [(4, false), (4, true), (1, false), (0, false), (300, false)] {
        let name = format!("scan of {length} reversed {reverse}");
        t.row(name, &[any(&[2, 3]), any(&[length, 2, 3]), any(&[3, 3])], move |x| {
            let options = chainrule::tensor::ScanOptions { reverse, ..Default::default() };
            let body = |h: &Tensor, v: &Tensor| {
                let h = (h.matmul(&x[2]) * 0.4 + v).tanh();
                (h.clone(), &h * v)
            };
            let (last, all) = chainrule::tensor::scan_with(options, body, &x[0], &x[1]);
            last + all.sum(0)
        });
    }
    t.row("scan of a pair", &[any(&[3]), any(&[5])], |x| {
        let start = (x[0].clone(), x[0].sum(..));
        let body =
            |(a, b): &(Tensor, Tensor), v: &Tensor| ((a.sin() * v + b, b * 0.5 + a.sum(..)), (a * 2.0, v.square()));
        let ((a, b), (c, d)) = scan(body, &start, &x[1]);
        a * b + c.sum(0) * d.sum(..)
    });
    t.row("scan without carries in use", &[any(&[2]), any(&[3, 2])], |x| {
        scan(|c: &Tensor, v: &Tensor| (c.clone(), c * v.exp()), &x[0], &x[1]).1
    });
    t.row("scan of linear steps", &[any(&[2]), any(&[4, 2]), any(&[2])], |x| {
        scan(|c: &Tensor, v: &Tensor| (c * &x[2] + v, c.clone()), &x[0], &x[1]).0
    });
    t.row("scan in a scan", &[any(&[2]), any(&[3, 2])], |x| {
        let body = |c: &Tensor, v: &Tensor| {
            let (inner, _) = scan(|d: &Tensor, w: &Tensor| ((d * w).sin() + v, w.clone()), c, &x[1]);
            (inner.clone(), inner)
        };
        let (last, all) = scan(body, &x[0], &x[1]);
        last + all.sum(0)
    });
    t.row("cond", &[operand(&[], Values::Bool), any(&[2, 3]), any(&[3])], |x| {
        let pair = (x[1].clone(), x[2].clone());
        cond(&x[0], |(a, b): &(Tensor, Tensor)| a.square() * b, |(a, b)| (a + b).sin() + b * 0.3, &pair)
    });
    t.row("cond on a value", &[operand(&[], Values::Signed(0.3, 1.0))], |x| {
        cond(&x[0].greater(0.0), |x: &Tensor| x.square() * 3.0, |x: &Tensor| x.exp(), &x[0])
    });
    t.row("cond of an outer value", &[operand(&[], Values::Bool), any(&[3]), any(&[3])], |x| {
        cond(&x[0], |a: &Tensor| a * &x[2], |a: &Tensor| a.sin() + &x[2], &x[1])
    });
    t.row("cond of three, one used", &[operand(&[], Values::Bool), any(&[3]), any(&[3])], |x| {
        let pair = (x[1].clone(), x[2].clone());
        cond(&x[0], |(a, _): &(Tensor, Tensor)| a.square(), |(_, b)| b.exp(), &pair) + &x[1] * &x[2]
    });
    t.row("cond in a scan", &[any(&[2]), operand(&[4, 2], Values::Signed(0.3, 1.0))], |x| {
        let body = |c: &Tensor, v: &Tensor| {
            let positive = v.sum(..).greater(0.0);
            let next =
                cond(&positive, |(c, v): &(Tensor, Tensor)| c * v, |(c, v)| c.sin() + v, &(c.clone(), v.clone()));
            (next.clone(), next)
        };
        scan(body, &x[0], &x[1]).1
    });
    t.row("checkpoint", &[any(&[2, 3]), any(&[3, 3])], |x| {
        checkpoint(|(a, b): &(Tensor, Tensor)| a.matmul(b).tanh().exp(), &(x[0].clone(), x[1].clone()))
    });
    t.row("checkpoint in a checkpoint", &[any(&[2, 3]), any(&[2, 3])], |x| {
        checkpoint(|a: &Tensor| checkpoint(|b: &Tensor| (b * &x[1]).sin(), &a.exp()).square() + a, &x[0])
    });
    t.row("checkpoint in a scan", &[any(&[2]), any(&[4, 2])], |x| {
        let body = |c: &Tensor, v: &Tensor| {
            let next = checkpoint(|(c, v): &(Tensor, Tensor)| (c * v).sin().exp(), &(c.clone(), v.clone()));
            (next.clone(), next)
        };
        scan(body, &x[0], &x[1]).1
    });
    t.row("custom derivative", &[any(&[2, 3]), any(&[2, 3])], |x| {
        custom_derivative(
            |(a, b): &(Tensor, Tensor)| a * a * b,
            |(a, b), _, (s, t)| a * b * s * 2.0 + a * a * t,
            &(x[0].clone(), x[1].clone()),
        )
    });
    t.row("custom derivative by its value", &[any(&[2, 3])], |x| {
        custom_derivative(|a: &Tensor| a.exp(), |_, y, t| y * t, &x[0]).square()
    });
}
