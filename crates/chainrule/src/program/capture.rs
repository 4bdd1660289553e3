//! From expressions to a program: number values, dissolve marks, calls and composites, list what is left.

use super::{Instruction, Kind, Program, Value};
use crate::tensor::{CallKind, Lambda, Node, Op, Origin, ScanDims, Shared, Tensor, Type, collect, define};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use std::sync::Arc;

/// An expression uses a value that is not known: it is inside a traced function.
#[derive(Clone, Debug)]
pub struct CaptureError {
    ty: Type,
    origin: Origin,
}

impl std::fmt::Display for CaptureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a value inside a traced function is not known yet: it uses {} from {}; \
             return it from the function instead of reading it there",
            self.ty, self.origin
        )
    }
}

impl std::error::Error for CaptureError {}

/// Lists the operations that make `outputs` from `inputs`.
///
/// # Errors
/// If the outputs use a placeholder that is not among the inputs.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::program::capture;
/// let x = Tensor::from([1.0f32, 2.0]);
/// let y = grad(|x: &Tensor| x.exp().sum(..), &x);
/// let program = capture("slope", &[("x".into(), x)], &[y]).unwrap();
/// assert_eq!(program.instructions.len(), 5); // exp; a 1, reshaped and spread over x; their product
/// ```
pub fn capture(name: &str, inputs: &[(String, Tensor)], outputs: &[Tensor]) -> Result<Program, CaptureError> {
    let mut builder = Builder::default();
    builder.program.name = name.to_owned();
    let mut known = Known::default();
    for (name, input) in inputs {
        let value = builder.program.add_value(input.ty().clone());
        builder.program.inputs.push((name.clone(), value));
        known.entry(input.key()).or_insert(value);
    }
    let leaves: Vec<Tensor> = inputs.iter().map(|(_, input)| input.clone()).collect();
    builder.program.outputs = builder.emit(outputs, &leaves, known, 0)?;
    Ok(builder.program)
}

type Known = FxHashMap<(u64, u32), Value>;
type Operands = SmallVec<[Value; 3]>;

#[derive(Default)]
struct Builder {
    program: Program,
    /// First output of what has been listed already, by operation, operands and region.
    numbered: FxHashMap<(Op, Operands, u32), Value>,
    regions: u32,
}

/// Scans over the same body and operands are one loop with the outputs of all.
type LoopKey = (ScanDims, Vec<(u64, u32)>, Vec<(u64, u32)>, Vec<(u64, u32)>);

struct Loop {
    results: Vec<Tensor>,
    outputs: Option<Vec<Value>>,
}

fn keys(tensors: &[Tensor]) -> Vec<(u64, u32)> {
    tensors.iter().map(Tensor::key).collect()
}

fn loop_key(node: &Node, dims: &ScanDims, body: &Lambda) -> LoopKey {
    (*dims, keys(node.inputs()), keys(&body.params), keys(&body.results[..dims.carries]))
}

impl Builder {
    fn emit(
        &mut self,
        results: &[Tensor],
        leaves: &[Tensor],
        mut known: Known,
        region: u32,
    ) -> Result<Vec<Value>, CaptureError> {
        let order = collect(results, leaves, 0);
        let mut loops = merged_loops(&order);
        for node in &order {
            let inputs: Operands = node.inputs().iter().map(|input| known[&input.key()]).collect();
            let outputs = self.node(node, inputs, region, &mut loops)?;
            for (output, value) in outputs.into_iter().enumerate() {
                known.entry((node.id(), output as u32)).or_insert(value);
            }
        }
        Ok(results.iter().map(|result| known[&result.key()]).collect())
    }

    fn node(
        &mut self,
        node: &Arc<Node>,
        inputs: Operands,
        region: u32,
        loops: &mut FxHashMap<LoopKey, Loop>,
    ) -> Result<Vec<Value>, CaptureError> {
        match node.op() {
            Op::Input(ty) => Err(CaptureError { ty: ty.clone(), origin: node.origin() }),
            Op::Variable | Op::StopGradient => Ok(vec![inputs[0]]),
            Op::Composite(composite) => {
                let x = node.origin().scope(|| Tensor::input(node.inputs()[0].ty().clone()));
                let y = node.origin().scope(|| define(composite, &x));
                let known = Known::from_iter([(x.key(), inputs[0])]);
                self.emit(&[y], &[x], known, region)
            }
            Op::Call(kind, body) => {
                let region = match kind {
                    CallKind::Custom(..) => region,
                    CallKind::Checkpoint => {
                        self.regions += 1;
                        self.regions
                    }
                };
                self.call(body, &inputs, region)
            }
            Op::Scan(dims, body) => self.scan(node, dims, body, inputs, region, loops),
            Op::Cond(yes, no) => {
                let kind = Kind::Cond(Box::new(self.body("yes", yes)?), Box::new(self.body("no", no)?));
                Ok(self.push(kind, inputs, node.types(), node.origin(), region))
            }
            op => {
                // Numbers are the same in every region.
                let region = if inputs.is_empty() { 0 } else { region };
                let key = (op.clone(), inputs, region);
                if let Some(&first) = self.numbered.get(&key) {
                    return Ok((first..).take(node.types().len()).collect());
                }
                let outputs = self.push(Kind::Op(op.clone()), key.1.clone(), node.types(), node.origin(), region);
                self.numbered.insert(key, outputs[0]);
                Ok(outputs)
            }
        }
    }

    fn call(&mut self, body: &Shared<Lambda>, inputs: &[Value], region: u32) -> Result<Vec<Value>, CaptureError> {
        let known = body.params.iter().map(Tensor::key).zip(inputs.iter().copied()).collect();
        self.emit(&body.results, &body.params, known, region)
    }

    fn scan(
        &mut self,
        node: &Arc<Node>,
        dims: &ScanDims,
        body: &Lambda,
        inputs: Operands,
        region: u32,
        loops: &mut FxHashMap<LoopKey, Loop>,
    ) -> Result<Vec<Value>, CaptureError> {
        let merged = loops.get_mut(&loop_key(node, dims, body)).expect("every scan was seen");
        if merged.outputs.is_none() {
            let whole = Lambda { params: body.params.clone(), results: merged.results.clone() };
            let program = self.body("body", &whole)?;
            let types: Vec<Type> = whole
                .results
                .iter()
                .enumerate()
                .map(|(i, y)| {
                    let lead = if i < dims.carries { None } else { Some(dims.length) };
                    y.ty().with_shape(lead.into_iter().chain(y.shape().iter().copied()))
                })
                .collect();
            merged.outputs =
                Some(self.push(Kind::Scan(*dims, Box::new(program)), inputs, &types, node.origin(), region));
        }
        let outputs = merged.outputs.as_ref().expect("listed");
        let place =
            |y: &Tensor| merged.results[dims.carries..].iter().position(|r| r.key() == y.key()).expect("merged");
        let stacked = body.results[dims.carries..].iter().map(|y| outputs[dims.carries + place(y)]);
        Ok(outputs[..dims.carries].iter().copied().chain(stacked).collect())
    }

    fn body(&self, name: &str, lambda: &Lambda) -> Result<Program, CaptureError> {
        let inputs: Vec<(String, Tensor)> =
            lambda.params.iter().enumerate().map(|(i, p)| (format!("{name}.{i}"), p.clone())).collect();
        capture(name, &inputs, &lambda.results)
    }

    fn push(&mut self, kind: Kind, inputs: Operands, types: &[Type], origin: Origin, region: u32) -> Vec<Value> {
        let outputs: Vec<Value> = types.iter().map(|ty| self.program.add_value(ty.clone())).collect();
        let instruction = Instruction { kind, inputs, outputs: outputs.iter().copied().collect(), origin, region };
        self.program.instructions.push(instruction);
        outputs
    }
}

fn merged_loops(order: &[Arc<Node>]) -> FxHashMap<LoopKey, Loop> {
    let mut loops: FxHashMap<LoopKey, Loop> = FxHashMap::default();
    for node in order {
        let Op::Scan(dims, body) = node.op() else { continue };
        let merged = loops
            .entry(loop_key(node, dims, body))
            .or_insert_with(|| Loop { results: body.results[..dims.carries].to_vec(), outputs: None });
        let seen: FxHashSet<(u64, u32)> = merged.results[dims.carries..].iter().map(Tensor::key).collect();
        let mut fresh = seen.clone();
        let new = body.results[dims.carries..].iter().filter(|y| fresh.insert(y.key()));
        merged.results.extend(new.cloned());
    }
    loops
}
