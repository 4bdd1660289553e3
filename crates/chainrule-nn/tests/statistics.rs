//! Running statistics against PyTorch (`goldens/statistics.json`, made by the script beside it): instance norms that track
//! them, and batch norms whose statistics are refreshed for given weights.

use chainrule::prelude::*;
use chainrule::tree;
use chainrule_nn::prelude::*;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("goldens/statistics.json")).expect("json")
}

fn numbers(json: &Value) -> Vec<f64> {
    json.as_array().expect("list").iter().map(|v| v.as_f64().expect("number")).collect()
}

fn close(what: &str, got: &Tensor, want: &Value) {
    let want = Tensor::from_vec(numbers(want), got.shape().to_vec());
    let far = (got - want).abs().max(..).item::<f64>();
    assert!(far < 1e-9, "{what}: {far} off");
}

/// Float leaves in f64.
fn wide<T: Tree>(tree: &T) -> T {
    tree::map(tree, |leaf| if leaf.dtype().is_float() { leaf.cast(DType::F64) } else { leaf.clone() })
}

#[test]
fn instance_norms_track_as_pytorch_does() {
    let golden = &golden()["instance"];
    let mut norm = wide(&InstanceNorm::new(3).affine().tracked().momentum(0.3));
    norm.weight = Some(Tensor::from_vec(numbers(&golden["weight"]), [3]));
    norm.bias = Some(Tensor::from_vec(numbers(&golden["bias"]), [3]));
    for pass in 0..3 {
        let mut context = if pass < 2 { Context::training(Key::new(pass)) } else { Context::evaluation() };
        let x = Tensor::from_vec(numbers(&golden["inputs"][pass as usize]), [2, 3, 5]);
        close(&format!("pass {pass}"), &norm.forward(&x, &mut context), &golden["outputs"][pass as usize]);
    }
    close("mean", norm.running_mean.as_ref().expect("tracked"), &golden["mean"]);
    close("variance", norm.running_var.as_ref().expect("tracked"), &golden["var"]);
    assert_eq!(paths(&norm), ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]);
    assert_eq!(parameter_count(&norm), 6);
}

#[derive(Tree, Clone)]
struct Net {
    first: Linear,
    first_norm: BatchNorm,
    second: Linear,
    second_norm: BatchNorm,
}

impl Net {
    fn forward(&mut self, x: &Tensor, context: &mut Context) -> Tensor {
        let x = self.first_norm.forward(&self.first.forward(x), context).tanh();
        self.second_norm.forward(&self.second.forward(&x), context)
    }
}

#[test]
fn statistics_are_refreshed_as_pytorch_does() {
    let golden = &golden()["refreshed"];
    let net = Net {
        first: Linear::new(&Key::new(1), 4, 5),
        first_norm: BatchNorm::new(5),
        second: Linear::new(&Key::new(2), 5, 3),
        second_norm: BatchNorm::new(3).cumulative(),
    };
    let mut place = 0;
    let mut net = tree::map_named(&wide(&net), |_, role, leaf| match role {
        tree::Role::State => leaf.clone(),
        tree::Role::Parameter => {
            place += 1;
            Tensor::from_vec(numbers(&golden["weights"][place - 1]), leaf.shape().to_vec())
        }
    });
    let batches: Vec<Tensor> = [6, 6, 3]
        .into_iter()
        .enumerate()
        .map(|(i, n)| Tensor::from_vec(numbers(&golden["batches"][i]), [n, 4]))
        .collect();
    // What they were before does not count.
    net.forward(&batches[0], &mut Context::training(Key::new(0)));
    let weights = net.first.weight.to_vec::<f64>();
    let net = refresh_statistics(&net, batches, &Key::new(0), |net: &mut Net, x: &Tensor, context: &mut Context| {
        net.forward(x, context)
    })
    .expect("it runs");
    for (i, norm) in [&net.first_norm, &net.second_norm].into_iter().enumerate() {
        close(&format!("mean {i}"), &norm.running_mean, &golden["means"][i]);
        close(&format!("variance {i}"), &norm.running_var, &golden["vars"][i]);
        assert_eq!(norm.num_batches_tracked.item::<i64>(), golden["counts"][i].as_i64().expect("count"));
    }
    assert_eq!((net.first.weight.to_vec::<f64>(), net.first_norm.momentum), (weights, Some(0.1)));
}
