//! What every family has, and the macro that makes it from a table.

use crate::types::Type;

/// What an op does besides computing its result.
///
/// It says nothing about instructions in the op's regions; [`Kernel::writes`](crate::Kernel::writes) looks into them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing: equal operands give equal results.
    Pure,
    /// It reads tensors. Inputs never change during a launch, so it may be moved and shared like a pure op.
    Read,
    /// It writes tensors.
    Write,
    /// It runs regions, and does what their instructions do.
    Nested,
}

/// The operands of an op.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature {
    /// Operands that are always there.
    pub operands: &'static [&'static str],
    /// What the operands after them are, if there may be more.
    pub rest: Option<&'static str>,
}

impl Signature {
    /// Whether `count` operands fit.
    pub(super) fn check(&self, name: &str, count: usize) -> Result<(), TypeError> {
        let least = self.operands.len();
        if count == least || (self.rest.is_some() && count > least) {
            return Ok(());
        }
        let mut names = self.operands.join(", ");
        if let Some(rest) = self.rest {
            names = format!("{names}{}{rest}…", if least == 0 { "" } else { ", " });
        }
        Err(TypeError::new(format!("`{name}` takes ({names}) and got {count} operands")))
    }
}

/// The types that a region takes and yields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionTypes {
    /// Of its arguments.
    pub args: Vec<Type>,
    /// Of its yields.
    pub yields: Vec<Type>,
}

/// Operands that an op cannot work on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    /// The op and the offending types.
    pub message: String,
    /// The rule, or what to write instead.
    pub help: Option<String>,
}

impl TypeError {
    pub(super) fn new(message: impl Into<String>) -> TypeError {
        TypeError { message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> TypeError {
        self.help = Some(help.into());
        self
    }
}

/// Declares a family. One row an op:
///
/// ```text
/// /// What it computes.
/// name => Variant { attribute: Type, … } (operand, …; rest) -> Out, Effect;
/// ```
///
/// `Out` is what the builder method returns: `ValueId`, `()`, or `Vec<ValueId>` for control flow.
macro_rules! family {
    ($(#[$meta:meta])* $family:ident: $(
        $(#[$doc:meta])*
        $name:ident => $variant:ident $({ $($attr:ident: $attr_type:ty),+ })? ($($operand:ident),* $(; $rest:ident)?) -> $out:ty, $effect:ident;
    )*) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Debug)]
        #[allow(missing_docs, reason = "the attributes are described with their op")]
        pub enum $family { $($(#[$doc])* $variant $({ $($attr: $attr_type),+ })?),* }

        impl $family {
            pub(super) const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            pub(super) fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => stringify!($name)),* }
            }

            pub(super) fn signature(&self) -> $crate::op::Signature {
                match self { $(Self::$variant { .. } => $crate::op::Signature {
                    operands: &[$(stringify!($operand)),*],
                    rest: [$(stringify!($rest),)? ""].first().copied().filter(|r| !r.is_empty()),
                }),* }
            }

            pub(super) fn effect(&self) -> $crate::op::Effect {
                match self { $(Self::$variant { .. } => $crate::op::Effect::$effect),* }
            }

            pub(super) fn attrs(&self) -> Vec<(&'static str, String)> {
                match self { $(Self::$variant $({ $($attr),+ })? => {
                    let all: Vec<(&'static str, Option<String>)> = vec![$($((stringify!($attr), $crate::op::Attr::print($attr))),+)?];
                    all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
                }),* }
            }

            pub(super) fn regions(&self) -> Vec<$crate::kernel::RegionId> {
                match self { $(Self::$variant $({ $($attr),+ })? => {
                    let all: Vec<Option<$crate::kernel::RegionId>> = vec![$($($crate::op::Attr::region($attr)),+)?];
                    all.into_iter().flatten().collect()
                }),* }
            }

            pub(super) fn regions_mut(&mut self) -> Vec<&mut $crate::kernel::RegionId> {
                match self { $(Self::$variant $({ $($attr),+ })? => {
                    let all: Vec<Option<&mut $crate::kernel::RegionId>> = vec![$($($crate::op::Attr::region_mut($attr)),+)?];
                    all.into_iter().flatten().collect()
                }),* }
            }

            #[allow(clippy::redundant_closure_call, reason = "`?` needs a function around it")]
            pub(super) fn parse(name: &str, attrs: &mut $crate::op::Attrs) -> Option<Result<Self, String>> {
                let _ = &attrs;
                match name {
                    $(stringify!($name) => Some((|| Ok(Self::$variant $({ $($attr: attrs.take(stringify!($attr))?),+ })?))()),)*
                    _ => None,
                }
            }
        }

        impl $crate::op::Builder<'_> { $(
            $(#[$doc])*
            ///
            /// # Errors
            /// The typing rule of the op.
            pub fn $name(&mut self $($(, $attr: $attr_type)+)? $(, $operand: $crate::kernel::ValueId)* $(, $rest: &[$crate::kernel::ValueId])?) -> Result<$out, $crate::op::TypeError> {
                let operands: &[&[$crate::kernel::ValueId]] = &[&[$($operand),*] $(, $rest)?];
                self.emit($family::$variant $({ $($attr),+ })?, &operands.concat())
            }
        )* }
    };
}
pub(super) use family;
