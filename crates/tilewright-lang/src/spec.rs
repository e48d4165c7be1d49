//! What is fixed when a kernel is specialised.

use tilewright_ir::Elem;

/// A value fixed at specialisation. It is part of the key under which compiled kernels are kept.
///
/// Two values with which a kernel could come out different must have different keys; two with equal keys share one
/// compiled kernel.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a specialisation value of a kernel",
    note = "numbers, flags, and types that implement `SpecValue` can; a launch parameter must be written `View`, `ViewMut` or `Scalar`, not through an alias"
)]
pub trait SpecValue {
    /// Appends what tells this value from others of its type.
    fn key(&self, into: &mut String);

    /// The value that this text says, for the command line.
    ///
    /// # Errors
    /// What is wrong with the text. Types that the command line cannot name refuse all of it.
    fn parse(text: &str) -> Result<Self, String>
    where
        Self: Sized,
    {
        Err(format!("`{text}` cannot be read as {}: this type has no text form", std::any::type_name::<Self>()))
    }
}

/// Appends `name=key;`, the key's own `;` and `\` escaped so that fields cannot run together.
pub fn push_key_field(into: &mut String, name: &str, value: &(impl SpecValue + ?Sized)) {
    let mut key = String::new();
    value.key(&mut key);
    into.push_str(name);
    into.push('=');
    for c in key.chars() {
        if matches!(c, ';' | '\\') {
            into.push('\\');
        }
        into.push(c);
    }
    into.push(';');
}

macro_rules! plain {
    ($($ty:ty),*) => { $(
        impl SpecValue for $ty {
            fn key(&self, into: &mut String) {
                into.push_str(&format!("{self:?}"));
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("`{text}` is no {}", stringify!($ty)))
            }
        }
    )* };
}

plain!(bool, usize, isize, u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

impl SpecValue for Elem {
    fn key(&self, into: &mut String) {
        into.push_str(self.name());
    }

    fn parse(text: &str) -> Result<Self, String> {
        Elem::from_name(text).ok_or_else(|| format!("`{text}` is no element type"))
    }
}

impl<T: SpecValue> SpecValue for Option<T> {
    fn key(&self, into: &mut String) {
        match self {
            Some(value) => {
                into.push('+');
                value.key(into);
            }
            None => into.push('-'),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(None) } else { T::parse(text).map(Some) }
    }
}

impl<T: SpecValue> SpecValue for [T] {
    fn key(&self, into: &mut String) {
        for value in self {
            push_key_field(into, "", value);
        }
    }
}

impl<T: SpecValue> SpecValue for Vec<T> {
    fn key(&self, into: &mut String) {
        self.as_slice().key(into);
    }
}

macro_rules! pointers {
    ($($pointer:ty),*) => { $(
        impl<T: SpecValue + ?Sized> SpecValue for $pointer {
            fn key(&self, into: &mut String) {
                (**self).key(into);
            }
        }
    )* };
}

pointers!(&T, Box<T>, std::rc::Rc<T>, std::sync::Arc<T>);

macro_rules! tuples {
    ($(($($part:ident)*))*) => { $(
        impl<$($part: SpecValue),*> SpecValue for ($($part,)*) {
            #[allow(non_snake_case, unused_variables, reason = "one name a part; the empty tuple has none")]
            fn key(&self, into: &mut String) {
                let ($($part,)*) = self;
                $(push_key_field(into, "", $part);)*
            }
        }
    )* };
}

tuples! { () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) }
