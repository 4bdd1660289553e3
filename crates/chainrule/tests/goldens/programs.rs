//! The small programs of the goldens, each written from its formula.

use super::Case;
use chainrule::prelude::*;

pub fn apply(case: &Case, x: &[Tensor]) -> Tensor {
    match &case.op()["program:".len()..] {
        "mlp_tanh_mse" => {
            let h = (x[0].matmul(&x[1]) + &x[2]).tanh();
            (h.matmul(&x[3]) + &x[4]).mean_squared_error(&x[5])
        }
        "mlp_gelu_cross_entropy" => {
            let h = (x[0].matmul(&x[1]) + &x[2]).gelu();
            (h.matmul(&x[3]) + &x[4]).cross_entropy(&x[5])
        }
        "attention_causal" => {
            let scores = x[0].matmul(&x[1].t()) * 0.5;
            let n = scores.size(-1);
            let (query, key) = (Tensor::iota([n, n], 0, DType::I64), Tensor::iota([n, n], 1, DType::I64));
            scores.masked_fill(&key.greater(&query), f64::NEG_INFINITY).softmax(-1).matmul(&x[2])
        }
        "attention_self" => {
            let (q, k, v) = (x[0].matmul(&x[1]), x[0].matmul(&x[2]), x[0].matmul(&x[3]));
            &x[0] + (q.matmul(&k.t()) * 0.5).softmax(-1).matmul(&v).matmul(&x[4])
        }
        "lstm" => lstm(x),
        "gru_step" => {
            let [rx, zx, nx] = (x[0].matmul(&x[2]) + &x[4]).chunk(-1);
            let [rh, zh, nh] = (x[1].matmul(&x[3]) + &x[5]).chunk(-1);
            let (r, z) = ((rx + rh).sigmoid(), (zx + zh).sigmoid());
            (1.0 - &z) * (nx + r * nh).tanh() + z * &x[1]
        }
        "rnn_scan" => {
            let body = |h: &Tensor, input: &Tensor| ((input.matmul(&x[2]) + h.matmul(&x[3]) + &x[4]).tanh(), ());
            scan(body, &x[1], &x[0]).0
        }
        "batch_norm_train" => x[0].normalize(0, 1e-5) * &x[1] + &x[2],
        "batch_norm_train_4d" => {
            let channel = |v: &Tensor| v.reshape([1, 2, 1, 1]);
            x[0].normalize([0, 2, 3], 1e-5) * channel(&x[1]) + channel(&x[2])
        }
        "logistic_regression" => {
            let z = x[0].matmul(&x[1]) + &x[2];
            (z.softplus() - &x[3] * &z).mean(..) + x[1].square().sum(..) * 0.05
        }
        "x_pow_x" => x[0].pow(&x[0]),
        "logsumexp_trick" => {
            let m = x[0].max_keepdims(1).stop_gradient();
            (&x[0] - &m).exp().sum_keepdims(1).log() + m
        }
        "rational" => (1.0 + &x[0] * 2.0 + x[0].pow(2.0) * 3.0) / (1.0 + x[0].pow(2.0) + x[0].pow(4.0)),
        "rosenbrock" => {
            let (a, b) = (x[0].at(..-1), x[0].at(1..));
            ((b - a.square()).square() * 100.0 + (1.0 - a).square()).sum(..)
        }
        "conv_net" => {
            let same = Convolution { padding: Padding::Both(1), ..Default::default() };
            let h = (x[0].conv(&x[1], &same) + x[2].reshape([2, 1, 1])).gelu();
            let h = h.avg_pool(&Pooling::new(2)).reshape([2, 8]);
            (h.matmul(&x[3]) + &x[4]).cross_entropy(&x[5])
        }
        "gaussian_log_density" => {
            let factor = ((&x[2] + x[2].t()) * 0.5).cholesky();
            let z = factor.triangular_solve(&(&x[0] - &x[1]).t(), true, false);
            z.square().sum(0) * -0.5 - factor.diagonal().log().sum(..) - 1.5 * (2.0 * std::f64::consts::PI).ln()
        }
        "pre_norm_block" => {
            let h = x[0].normalize(-1, 1e-5) * &x[1] + &x[2];
            &x[0] + (h.matmul(&x[3]) + &x[4]).gelu_tanh().matmul(&x[5]) + &x[6]
        }
        "embedding_bag" => x[0].gather(&x[1], 0).mean(1).matmul(&x[0].t()).cross_entropy(&x[2]),
        "newton_sqrt" => (0..5).fold((1.0 + &x[0]) / 2.0, |y, _| 0.5 * (&y + &x[0] / &y)),
        "info_nce" => {
            let unit = |v: &Tensor| v / v.norm(1).unsqueeze(1);
            let s = unit(&x[0]).matmul(&unit(&x[1]).t()) / 0.5;
            let t = Tensor::arange(3, DType::I64);
            (s.cross_entropy(&t) + s.t().cross_entropy(&t)) * 0.5
        }
        "fourier_features" => {
            let z = x[0].matmul(&x[1]);
            concat(&[z.sin(), z.cos()], -1).matmul(&x[2])
        }
        "lotka_volterra_rk4" => lotka_volterra(&x[0], &x[1]),
        "power_iteration" => {
            let step = |v: Tensor| {
                let v = x[0].matmul(&v);
                &v / v.norm(..)
            };
            let v = (0..4).fold(x[1].clone(), |v, _| step(v));
            v.matmul(&x[0]).matmul(&v)
        }
        "double_where" => {
            let positive = x[0].greater(0.0);
            positive.select(&positive.select(&x[0], 1.0).sqrt(), 0.0)
        }
        "stop_gradient" => &x[0] * x[0].tanh().stop_gradient(),
        "gradient_penalty" => {
            let f = |r: &Tensor| r.matmul(&x[1]).tanh().square().sum(..);
            let g = vmap(|r: &Tensor| grad(f, r), &x[0]);
            (g.square().sum(1).sqrt() - 1.0).square().mean(..)
        }
        "label_smoothing" => {
            let q = x[1].one_hot(4, DType::F64) * 0.9 + 0.1 / 4.0;
            -(q * x[0].log_softmax(1)).sum(1).mean(..)
        }
        "mixture_density" => {
            let z = (x[0].unsqueeze(1) - &x[2]) / x[3].exp();
            -(x[1].log_softmax(-1) - z.square() * 0.5 - &x[3]).logsumexp(1).mean(..)
        }
        "product_of_many" => {
            let body = |y: &Tensor, x: &Tensor| (y * x + y.sin(), ());
            scan(body, &Tensor::from(0.5), &x[0]).0
        }
        "kernel_ridge" => {
            let squares = (x[0].unsqueeze(1) - x[0].unsqueeze(0)).square().sum(-1);
            let k = (-squares / (2.0 * (&x[2] * 2.0).exp())).exp() + Tensor::eye(4, DType::F64) * 0.1;
            let solved = k.solve_spd(&x[1].unsqueeze(1)).squeeze(1);
            x[1].matmul(&solved) * 0.5 + k.logdet_spd() * 0.5
        }
        "shared_input" => {
            let y = &x[0] * &x[0];
            let z = &y + &y * &x[0];
            z.sum(..) * &z / (1.0 + y)
        }
        other => panic!("no such program here: {other}"),
    }
}

fn lstm(x: &[Tensor]) -> Tensor {
    let body = |(h, c): &(Tensor, Tensor), input: &Tensor| {
        let [i, f, g, o] = (input.matmul(&x[3]) + h.matmul(&x[4]) + &x[5]).chunk(-1);
        let c = f.sigmoid() * c + i.sigmoid() * g.tanh();
        let h = o.sigmoid() * c.tanh();
        ((h.clone(), c), h)
    };
    scan(body, &(x[1].clone(), x[2].clone()), &x[0]).1
}

fn lotka_volterra(y: &Tensor, p: &Tensor) -> Tensor {
    let f = |y: &Tensor| {
        let (a, b, both) = (y.at(0), y.at(1), y.at(0) * y.at(1));
        stack(&[p.at(0) * a - p.at(1) * &both, p.at(2) * &both - p.at(3) * b], 0)
    };
    (0..4).fold(y.clone(), |y, _| {
        let k1 = f(&y);
        let k2 = f(&(&y + &k1 * 0.05));
        let k3 = f(&(&y + &k2 * 0.05));
        let k4 = f(&(&y + &k3 * 0.1));
        y + (k1 + k2 * 2.0 + k3 * 2.0 + k4) * (0.1 / 6.0)
    })
}
