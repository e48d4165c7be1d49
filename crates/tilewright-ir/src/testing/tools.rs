//! Tools that a test needs and that a machine may lack.

use std::fmt::Display;

/// `found`, or `None` and a printed line that says what is missing and so not tested.
///
/// # Panics
/// A tool is missing and the environment variable `TILEWRIGHT_REQUIRE_TOOLS` is set, as it is where everything must be tested.
pub fn present<T, E: Display>(found: Result<T, E>) -> Option<T> {
    let required = std::env::var_os("TILEWRIGHT_REQUIRE_TOOLS").is_some_and(|value| !value.is_empty() && value != "0");
    match found {
        Ok(tool) => Some(tool),
        Err(missing) if required => panic!("{missing}; TILEWRIGHT_REQUIRE_TOOLS is set"),
        Err(missing) => {
            println!("skipped: {missing}");
            None
        }
    }
}
