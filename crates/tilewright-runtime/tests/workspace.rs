//! Working memory is kept between launches. A test of its own, because it counts what the whole process allocates.
//!
//! Only large pieces count: the queues of the thread pool allocate a few KB now and then, a tile of this kernel is 64 KiB.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use tilewright_ir::{Elem, text};
use tilewright_runtime::{Arg, Device, Tensor};

struct Counting;

/// Bytes of a piece that is counted, at least: a fourth of a tile of the kernel below.
const LARGE: usize = 16 << 10;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does it all; the count is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_second_launch_allocates_no_working_memory() {
    let kernel = text::parse(
        "kernel k(x: view<f32, 2>, out y: view<f32, 2>) {
           %0 = constant value=0 elem=i32
           %a = load %x, %0, %0 shape=[128, 128]
           %b = dot %a, %a
           store %y, %b, %0, %0
         }",
    );
    let kernel = kernel.expect("a kernel that parses");
    for threads in [1, 2] {
        let device = Device::cpu_with_threads(threads);
        let pipeline = device.compile(kernel.clone()).unwrap();
        let x = Tensor::zeros(Elem::F32, &[128, 128]).unwrap();
        let mut y = Tensor::zeros(Elem::F32, &[128, 128]).unwrap();
        let mut launch = |programs: u32| {
            let before = ALLOCATED.load(Ordering::Relaxed);
            let mut args = [Arg::Read(x.view()), Arg::Write(y.view_mut())];
            device.launch(&pipeline, [programs, 1, 1], &mut args).unwrap();
            ALLOCATED.load(Ordering::Relaxed) - before
        };
        assert!(pipeline.scratch_bytes() >= 128 * 128 * 4);
        assert!(launch(1) >= pipeline.scratch_bytes());
        let again: usize = (0..4).map(|_| launch(1)).sum();
        assert_eq!(again, 0, "{threads} threads");
        // Each thread has its own, once.
        let many: usize = (0..20).map(|_| launch(4)).sum();
        let most = (threads - 1) * (pipeline.scratch_bytes() + 4096);
        assert!(many <= most, "{many} bytes on {threads} threads, {most} are enough");
    }
}
