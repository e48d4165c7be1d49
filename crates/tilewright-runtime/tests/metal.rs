//! Where there is no Metal. What needs it is tested in the crate itself, over a GPU or a fake of one.
#![cfg(not(target_vendor = "apple"))]

use tilewright_runtime::metal::MetalError;
use tilewright_runtime::{Device, DeviceError};

#[test]
fn without_an_apple_system_there_is_a_typed_error_that_says_what_to_do() {
    let Err(error) = Device::metal() else { panic!("there is no Metal") };
    assert_eq!(error, DeviceError::Metal(MetalError::NotApple));
    let says = "Metal needs macOS on Apple silicon; use --device cpu, `Device::cpu()`";
    assert_eq!(error.to_string(), says);
}
