//! The reference against numbers worked out by hand or by NumPy and JAX, one short row an operation.

use super::*;
use crate::program::capture;
use crate::tensor::{Distribution, Lambda, Reduction, Scalar, Shared};
use smallvec::smallvec;

/// All outputs of an operation of leaves.
fn apply(op: Op, inputs: &[Tensor]) -> Result<Vec<Interpreted>, String> {
    let node = Tensor::apply(op, inputs);
    let outputs: Vec<Tensor> = (0..node.node().types().len()).map(|i| node.output(i)).collect();
    let named: Vec<(String, Tensor)> = inputs.iter().map(|x| ("x".into(), x.clone())).collect();
    let program = capture("test", &named, &outputs).expect("closed");
    program.verify()?;
    interpret(&program, &inputs.iter().map(Interpreted::from_tensor).collect::<Vec<_>>())
}

fn numbers(op: Op, inputs: &[Tensor]) -> Vec<f64> {
    apply(op, inputs).expect("indexes are inside")[0].to_f64()
}

/// 0, 1, 2, … in a shape.
fn counting(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_vec((0..n).map(|i| i as f64).collect::<Vec<_>>(), shape)
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// Equal, NaN to NaN.
fn same(a: &[f64], b: &[f64]) {
    let equal = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
    assert!(equal, "{a:?}\nis not\n{b:?}");
}

#[test]
fn results_are_rounded_and_wrap() {
    let x = Tensor::from([1.0f32, 3.0]);
    assert_eq!(
        numbers(Op::Binary(crate::tensor::Binary::Div), &[x.clone(), Tensor::from([3.0f32, 1.0])])[0],
        (1.0f32 / 3.0) as f64
    );
    let x = Tensor::from([200u8]);
    assert_eq!(numbers(Op::Binary(crate::tensor::Binary::Add), &[x.clone(), x]), [144.0]);
    let x = Tensor::from([1.0f32, 2.5]);
    assert_eq!(Interpreted::from_tensor(&x).into_tensor().storage().unwrap().as_slice::<f32>(), [1.0, 2.5]);
}

#[test]
fn movement() {
    let x = counting(&[2, 3]);
    same(&numbers(Op::Permute(smallvec![1, 0]), std::slice::from_ref(&x)), &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    same(&numbers(Op::Reshape(smallvec![3, 2]), std::slice::from_ref(&x)), &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    same(&numbers(Op::Broadcast(smallvec![2, 2], smallvec![0]), &[counting(&[2])]), &[0.0, 0.0, 1.0, 1.0]);
    same(&numbers(Op::Broadcast(smallvec![2, 2], smallvec![0, 1]), &[counting(&[1, 2])]), &[0.0, 1.0, 0.0, 1.0]);
    same(&numbers(Op::Slice([(1, 1, 1), (0, 2, 2)].into()), std::slice::from_ref(&x)), &[3.0, 5.0]);
    let padded = numbers(Op::Pad([(1, 2, 1)].into(), Scalar::Float(9.0)), &[counting(&[3])]);
    same(&padded, &[9.0, 0.0, 9.0, 1.0, 9.0, 2.0, 9.0, 9.0]);
    same(&numbers(Op::Concat(1), &[counting(&[2, 1]), x.clone()]), &[0.0, 0.0, 1.0, 2.0, 1.0, 3.0, 4.0, 5.0]);
    same(&numbers(Op::Reverse(smallvec![1]), &[x]), &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
    same(&numbers(Op::Iota(1, Type::new(DType::F16, [2, 2])), &[]), &[0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn reductions() {
    let x = counting(&[2, 3]);
    let reduce = |op, axes: &[usize], x: &Tensor| numbers(Op::Reduce(op, axes.into()), std::slice::from_ref(x));
    same(&reduce(Reduction::Sum, &[1], &x), &[3.0, 12.0]);
    same(&reduce(Reduction::Max, &[0], &x), &[3.0, 4.0, 5.0]);
    same(&reduce(Reduction::Prod, &[0, 1], &x), &[0.0]);
    same(&reduce(Reduction::Min, &[0], &Tensor::from([1.0, NAN, 0.0])), &[NAN]);
    let nothing = counting(&[0, 1]);
    let all = [Reduction::Sum, Reduction::Max, Reduction::Min, Reduction::Prod];
    same(&all.map(|op| reduce(op, &[0], &nothing)[0]), &[0.0, -INF, INF, 1.0]);
    same(&numbers(Op::ArgReduce(true, 0), &[Tensor::from([1.0, 2.0, 2.0])]), &[1.0]);
    same(&numbers(Op::ArgReduce(false, 0), &[Tensor::from([1.0, NAN, 0.0, NAN])]), &[1.0]);
    same(&numbers(Op::Cumsum { axis: 1, reverse: false }, std::slice::from_ref(&x)), &[0.0, 1.0, 3.0, 3.0, 7.0, 12.0]);
    same(&numbers(Op::Cumsum { axis: 1, reverse: true }, &[x]), &[3.0, 3.0, 2.0, 12.0, 9.0, 5.0]);
}

#[test]
fn sorting_is_stable_with_nan_last() {
    let x = Tensor::from([[2.0, NAN, 1.0, 2.0], [0.0, 1.0, -INF, INF]]);
    let sort = |descending| apply(Op::Sort { axis: 1, descending }, std::slice::from_ref(&x)).unwrap();
    let up = sort(false);
    same(&up[0].to_f64(), &[1.0, 2.0, 2.0, NAN, -INF, 0.0, 1.0, INF]);
    same(&up[1].to_f64(), &[2.0, 0.0, 3.0, 1.0, 2.0, 0.0, 1.0, 3.0]);
    let down = sort(true);
    same(&down[0].to_f64(), &[2.0, 2.0, 1.0, NAN, INF, 1.0, 0.0, -INF]);
    same(&down[1].to_f64(), &[0.0, 3.0, 2.0, 1.0, 3.0, 1.0, 0.0, 2.0]);
}

#[test]
fn gather_and_scatter() {
    let x = counting(&[2, 3]);
    let index = Tensor::from([-1i64, 0, -1]);
    let gather = |axis, batch, index: &Tensor| apply(Op::Gather { axis, batch }, &[x.clone(), index.clone()]);
    same(&gather(1, 0, &index).unwrap()[0].to_f64(), &[2.0, 0.0, 2.0, 5.0, 3.0, 5.0]);
    same(&gather(1, 1, &Tensor::from([2i64, 0])).unwrap()[0].to_f64(), &[2.0, 3.0]);
    same(&gather(0, 0, &Tensor::from([[1i64], [0]])).unwrap()[0].to_f64(), &[3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
    let scattered = numbers(Op::ScatterAdd { axis: 1, batch: 0, size: 4 }, &[index, x.clone()]);
    same(&scattered, &[1.0, 0.0, 0.0, 2.0, 4.0, 0.0, 0.0, 8.0]);
    let error = gather(1, 0, &Tensor::from([0i64, -4])).unwrap_err();
    assert_eq!(error, "index -4 (element 1 of the indices) is out of range for an axis of size 3");
}

#[test]
fn products() {
    // einsum("bij,jkb->bik") of counting arrays.
    let dims = DotDims {
        lhs_batch: smallvec![0],
        rhs_batch: smallvec![2],
        lhs_contract: smallvec![2],
        rhs_contract: smallvec![0],
    };
    let product = numbers(Op::Dot(dims.into()), &[counting(&[2, 1, 2]), counting(&[2, 2, 2])]);
    same(&product, &[4.0, 6.0, 17.0, 27.0]);

    let dims = |stride, padding, lhs, rhs, groups| ConvDims {
        stride: smallvec![stride],
        padding: smallvec![padding],
        lhs_dilation: smallvec![lhs],
        rhs_dilation: smallvec![rhs],
        groups,
    };
    let conv = |dims: ConvDims, x: &Tensor, k: &Tensor| numbers(Op::Conv(dims.into()), &[x.clone(), k.clone()]);
    let (x, k) = (Tensor::from([[[1.0, 2.0, 3.0, 4.0]]]), Tensor::from([[[1.0, 10.0]]]));
    same(&conv(dims(1, (0, 0), 1, 1, 1), &x, &k), &[21.0, 32.0, 43.0]);
    same(&conv(dims(2, (1, 1), 1, 1, 1), &x, &k), &[10.0, 32.0, 4.0]);
    same(&conv(dims(1, (-1, 0), 1, 2, 1), &x, &k), &[42.0]);
    same(&conv(dims(1, (1, 0), 2, 1, 1), &x, &k), &[10.0, 1.0, 20.0, 2.0, 30.0, 3.0, 40.0]);
    let (x, k) = (Tensor::from([[[1.0], [2.0]]]), Tensor::from([[[3.0]], [[5.0]]]));
    same(&conv(dims(1, (0, 0), 1, 1, 2), &x, &k), &[3.0, 10.0]);
}

#[test]
fn windows_are_unfolded_and_summed_back() {
    let windows = Windows { size: smallvec![4], window: smallvec![2], stride: smallvec![1], dilation: smallvec![2] };
    let unfolded = numbers(Op::Unfold(windows.clone().into()), &[counting(&[4])]);
    same(&unfolded, &[0.0, 2.0, 1.0, 3.0]);
    same(&numbers(Op::Fold(windows.into()), &[Tensor::from([[1.0, 2.0], [3.0, 4.0]])]), &[1.0, 3.0, 2.0, 4.0]);
    let windows = Windows { size: smallvec![3], window: smallvec![2], stride: smallvec![1], dilation: smallvec![1] };
    same(&numbers(Op::Fold(windows.into()), &[Tensor::from([[1.0, 2.0], [3.0, 4.0]])]), &[1.0, 5.0, 4.0]);
}

#[test]
fn factor_and_solve() {
    // Above the diagonal stands what must not be read; the second matrix is not positive definite.
    let a = Tensor::from([[[4.0, 99.0], [2.0, 10.0]], [[1.0, 0.0], [2.0, 1.0]]]);
    same(&numbers(Op::Cholesky, &[a]), &[2.0, 0.0, 1.0, 3.0, NAN, NAN, NAN, NAN]);
    let a = Tensor::from([[2.0, 4.0], [1.0, 4.0]]);
    let b = Tensor::from([[2.0], [9.0]]);
    let solve = |lower, transpose| numbers(Op::TriangularSolve { lower, transpose }, &[a.clone(), b.clone()]);
    same(&solve(true, false), &[1.0, 2.0]);
    same(&solve(true, true), &[-0.125, 2.25]);
    same(&solve(false, false), &[-3.5, 2.25]);
    same(&solve(false, true), &[1.0, 1.25]);
}

#[test]
fn random_numbers_depend_on_their_key_alone() {
    let op = Op::Random(Distribution::Uniform, Type::new(DType::F32, [3]));
    let both = numbers(op.clone(), &[Tensor::from([7i64, 8])]);
    assert_eq!(both[3..], numbers(op, &[Tensor::from([8i64])]));
    assert!(both.iter().all(|x| (0.0..1.0).contains(x)));
}

#[test]
fn loops_and_branches() {
    let placeholder = |shape: &[usize]| Tensor::input(Type::new(DType::F64, shape.iter().copied()));
    let (carry, slice, constant) = (placeholder(&[]), placeholder(&[]), placeholder(&[]));
    let next = &carry * &constant + &slice;
    let body = Shared::new(Lambda { params: vec![carry.clone(), slice, constant], results: vec![next, carry] });
    let inputs = [Tensor::from(1.0), Tensor::from([1.0, 2.0, 3.0]), Tensor::from(2.0)];
    let scan = |reverse| {
        let dims = ScanDims { length: 3, carries: 1, sequences: 1, reverse };
        let results = apply(Op::Scan(dims.into(), body.clone()), &inputs).unwrap();
        [results[0].to_f64(), results[1].to_f64()].concat()
    };
    same(&scan(false), &[19.0, 1.0, 3.0, 8.0]);
    same(&scan(true), &[25.0, 12.0, 5.0, 1.0]);

    let x = placeholder(&[]);
    let branch = |y: Tensor| Shared::new(Lambda { params: vec![x.clone()], results: vec![y] });
    let op = Op::Cond(branch(&x + 1.0), branch(-&x));
    same(&numbers(op.clone(), &[Tensor::from(true), Tensor::from(2.0)]), &[3.0]);
    same(&numbers(op, &[Tensor::from(false), Tensor::from(2.0)]), &[-2.0]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let x = counting(&[2]);
    let program = capture("f", &[("x".into(), x.clone())], &[x.exp()]).unwrap();
    assert!(interpret(&program, &[]).unwrap_err().contains("takes 1 inputs, got 0"));
    let other = Interpreted::from_tensor(&counting(&[3]));
    assert!(interpret(&program, &[other]).unwrap_err().contains("x is f64[2] and was given f64[3]"));
}
