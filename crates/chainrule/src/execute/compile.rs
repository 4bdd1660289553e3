//! `compile`: a function becomes one program for each form of its arguments, and runs without being traced again.

use super::machine::{self, ExecuteError, Scratch};
use super::profile::Profile;
use crate::optimize;
use crate::plan::{Plan, PlanOptions};
use crate::program::{Program, capture};
use crate::tensor::{Storage, Tensor, Type, placeholders};
use crate::tree::{self, Tree};
use chainrule_kernels::buffer::Buffer;
use chainrule_kernels::pool::Pool;
use std::sync::Arc;
use std::time::Instant;

/// A function that runs as a program; made by [`compile`].
pub struct Compiled<A, B, F> {
    function: F,
    pool: Arc<Pool>,
    versions: Vec<Version<B>>,
    marker: std::marker::PhantomData<fn(A) -> B>,
}

/// The program for one form of the arguments.
struct Version<B> {
    paths: Vec<String>,
    types: Vec<Type>,
    template: B,
    program: Program,
    plan: Plan,
    scratch: Scratch,
}

/// Makes a function run as one program: traced at its first call, and again only for arguments of other shapes.
///
/// Arguments that nobody else holds and that a result can take the place of are updated in place: pass state by
/// value and take it back.
///
/// ```
/// use chainrule::prelude::*;
/// let mut step = compile(|(w, x): &(Tensor, Tensor)| {
///     let (loss, g) = value_and_grad(|w: &Tensor| (w * x - 1.0).square().sum(..), w);
///     (w - g * 0.1, loss)
/// });
/// let (mut w, x) = (Tensor::from([0.0f32, 0.0]), Tensor::from([1.0f32, 2.0]));
/// let mut loss = Tensor::from(0.0);
/// for _ in 0..50 {
///     (w, loss) = step.run((w, x.clone())).unwrap();
/// }
/// assert!(loss.item::<f32>() < 1e-5);
/// ```
pub fn compile<A: Tree, B: Tree, F: Fn(&A) -> B>(function: F) -> Compiled<A, B, F> {
    Compiled { function, pool: super::pool(None), versions: Vec::new(), marker: std::marker::PhantomData }
}

impl<A: Tree, B: Tree, F: Fn(&A) -> B> Compiled<A, B, F> {
    /// Runs kernels on this many threads. Results do not depend on it, bit for bit.
    pub fn threads(mut self, threads: usize) -> Self {
        self.pool = super::pool(Some(threads));
        self
    }

    /// Runs the program on arguments.
    ///
    /// # Errors
    /// If a value does not fit: an index outside its axis.
    ///
    /// # Panics
    /// At the first call for a form of arguments, wherever the function itself panics while it is traced.
    #[track_caller]
    pub fn run(&mut self, arguments: A) -> Result<B, ExecuteError> {
        let version = self.version(&arguments);
        let version = &mut self.versions[version];
        let leaves = tree::leaves(&arguments);
        drop(arguments);
        let results = version.run(&self.pool, leaves)?;
        Ok(tree::rebuild(&version.template, &results))
    }

    /// [`Compiled::run`], and adds to a profile where the time went. Timing costs a few hundredths of a microsecond a step.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    #[track_caller]
    pub fn run_profiled(&mut self, arguments: A, profile: &mut Profile) -> Result<B, ExecuteError> {
        let version = self.version(&arguments);
        let Version { plan, scratch, .. } = &mut self.versions[version];
        scratch.measure(plan, true);
        let start = Instant::now();
        let result = self.run(arguments);
        let total = start.elapsed();
        let Version { plan, scratch, .. } = &mut self.versions[version];
        profile.collect(plan, scratch, total);
        scratch.measure(plan, false);
        result
    }

    /// The program for arguments of this form, as it was optimised.
    #[track_caller]
    pub fn program(&mut self, arguments: &A) -> &Program {
        let version = self.version(arguments);
        &self.versions[version].program
    }

    /// The plan for arguments of this form.
    #[track_caller]
    pub fn plan(&mut self, arguments: &A) -> &Plan {
        let version = self.version(arguments);
        &self.versions[version].plan
    }

    #[track_caller]
    fn version(&mut self, arguments: &A) -> usize {
        let named = tree::named_leaves(arguments);
        let same = |version: &Version<B>| {
            version.types.len() == named.len()
                && version.types.iter().zip(&named).all(|(ty, leaf)| ty == leaf.2.ty())
                && version.paths.iter().zip(&named).all(|(path, leaf)| *path == leaf.0)
        };
        if let Some(found) = self.versions.iter().position(same) {
            return found;
        }
        let placeholders = placeholders(named.iter().map(|leaf| leaf.2.ty()));
        let result = (self.function)(&tree::rebuild(arguments, &placeholders));
        let inputs: Vec<(String, Tensor)> = named.iter().map(|leaf| leaf.0.clone()).zip(placeholders).collect();
        let program = match capture("compiled", &inputs, &tree::leaves(&result)) {
            Ok(program) => optimize::optimize(program),
            Err(error) => panic!("compile: {error}"),
        };
        let plan = Plan::new(&program, PlanOptions::with_state());
        // The template keeps the form of the result, not the expression behind it.
        let template = tree::map(&result, |leaf| Tensor::zeros(leaf.shape(), leaf.dtype()));
        self.versions.push(Version {
            paths: named.iter().map(|leaf| leaf.0.clone()).collect(),
            types: named.iter().map(|leaf| leaf.2.ty().clone()).collect(),
            template,
            scratch: Scratch::new(&plan),
            program,
            plan,
        });
        self.versions.len() - 1
    }
}

impl<B> Version<B> {
    fn run(&mut self, pool: &Pool, leaves: Vec<Tensor>) -> Result<Vec<Tensor>, ExecuteError> {
        let known = leaves.iter().all(|leaf| leaf.storage().is_some());
        let leaves = if known { leaves } else { super::eval_all(&leaves) };
        let mut storages: Vec<Option<Storage>> = leaves.into_iter().map(|leaf| Some(leaf.into_storage())).collect();
        let mut buffers: Vec<Option<Buffer>> = self.plan.results.iter().map(|_| None).collect();
        for &(argument, result) in &self.plan.donated {
            let storage = storages[argument].take().expect("given once");
            buffers[result] = Some(storage.into_unique().unwrap_or_else(|shared| {
                let mut copy = Buffer::zeroed(shared.bytes().len());
                copy.bytes_mut().copy_from_slice(shared.bytes());
                copy
            }));
        }
        let mut buffers: Vec<Buffer> = buffers
            .into_iter()
            .zip(&self.plan.results)
            .map(|(buffer, ty)| buffer.unwrap_or_else(|| Buffer::zeroed(ty.bytes())))
            .collect();
        let arguments: Vec<&[u8]> = storages.iter().map(|s| s.as_ref().map_or(&[][..], Storage::bytes)).collect();
        let mut results: Vec<&mut [u8]> = buffers.iter_mut().map(Buffer::bytes_mut).collect();
        machine::run_on(pool, &self.plan, &arguments, &mut results, &mut self.scratch)?;
        let types = self.plan.results.iter().cloned();
        Ok(buffers.into_iter().zip(types).map(|(buffer, ty)| Tensor::from_storage(Storage::new(buffer, ty))).collect())
    }
}
