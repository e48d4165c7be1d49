//! Systems without Metal: no GPU can be made, so nothing else of it can be there.

use super::{Command, Compiled, MetalError, MetalInfo, Span};
use tilewright_compile::gpu::Source;

pub(super) enum Gpu {}
pub(super) enum Program {}
pub(super) enum Memory {}
pub(super) enum Signal {}
pub(super) enum Queue {}
#[derive(Clone)]
pub(super) enum Commands {}

impl Gpu {
    pub fn open() -> Result<Gpu, MetalError> {
        Err(MetalError::NotApple)
    }

    pub fn info(&self) -> &MetalInfo {
        match *self {}
    }

    pub fn compile(&self, _: &Source) -> Result<Program, String> {
        match *self {}
    }

    pub fn memory(&self, _: usize) -> Option<Memory> {
        match *self {}
    }

    pub fn signal(&self) -> Option<Signal> {
        match *self {}
    }

    pub fn queue(&self) -> Option<Queue> {
        match *self {}
    }
}

impl Program {
    pub fn compiled(&self) -> Compiled {
        match *self {}
    }
}

impl Memory {
    pub unsafe fn read(&self, _: usize, _: &mut [u8]) {
        match *self {}
    }

    pub unsafe fn write(&self, _: usize, _: &[u8]) {
        match *self {}
    }

    pub unsafe fn clear(&self, _: usize, _: usize) {
        match *self {}
    }
}

impl Queue {
    pub unsafe fn commit(&self, _: Command<'_>) -> Option<Commands> {
        match *self {}
    }
}

impl Commands {
    pub fn done(&self) -> bool {
        match *self {}
    }

    pub fn wait(&self) -> Result<Span, String> {
        match *self {}
    }
}
