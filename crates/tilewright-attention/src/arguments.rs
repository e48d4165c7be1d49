//! What a kernel is given at launch: its own arguments by name, and what the cache and the features bring.

use crate::error::AttentionError;
use crate::feature::{Input, InputValue};
use tilewright_ir::Kernel;
use tilewright_lang::HostValue;
use tilewright_runtime::{Arg, TensorView, TensorViewMut};

/// A kernel's own arguments, as its generated `Args::bind` gives them.
pub(crate) type Bound<'a> = Vec<(&'static str, HostValue<TensorView<'a>, TensorViewMut<'a>>)>;

/// The arguments in the order of the kernel's parameters. What the cache and the features bring and the kernel does not ask
/// for is left out.
pub(crate) fn in_order<'a>(
    kernel: &Kernel,
    own: Bound<'a>,
    cache: Vec<(&'static str, TensorView<'a>)>,
    inputs: Vec<Input<'a>>,
) -> Result<Vec<Arg<'a>>, AttentionError> {
    let own = own.into_iter().map(|(name, value)| {
        let arg = match value {
            HostValue::In(view) => Arg::Read(view),
            HostValue::Out(view) => Arg::Write(view),
            HostValue::Scalar(x) => Arg::Scalar(x),
        };
        (name, arg)
    });
    let cache = cache.into_iter().map(|(name, view)| (name, Arg::Read(view)));
    let inputs = inputs.into_iter().map(|input| {
        let arg = match input.value {
            InputValue::Scalar(x) => Arg::Scalar(x),
            InputValue::Tensor(view) => Arg::Read(view),
        };
        (input.name, arg)
    });
    let mut given: Vec<(&str, Arg<'a>)> = own.chain(cache).chain(inputs).collect();
    let mut take = |name: &str| {
        let place = given.iter().position(|(given, _)| *given == name)?;
        Some(given.swap_remove(place).1)
    };
    let missing = |name: &str| AttentionError::MissingInput { name: name.to_string() };
    kernel.params.iter().map(|param| take(&param.name).ok_or_else(|| missing(&param.name))).collect()
}
