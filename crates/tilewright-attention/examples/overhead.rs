//! What a launch costs besides its arithmetic, and how far the CPU device is from the interpreter.
//!
//!     cargo run --release -p tilewright-attention --example overhead

use std::error::Error;
use std::time::{Duration, Instant};
use tilewright_attention::{Attention, AttentionError};
use tilewright_ir::{Elem, verify};
use tilewright_runtime::{Device, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu();
    let q = Tensor::zeros(Elem::F32, &[1, 16, 256, 128])?;
    let k = Tensor::zeros(Elem::F32, &[1, 4, 256, 128])?;
    let request = Attention::new(q.view(), k.view(), k.view()).causal().lse();

    let variant = request.plan(&device)?.variant().clone();
    let (trace, kernel) = timed(50, || variant.forward()?.1().map_err(AttentionError::from))?;
    let (verify, ()) = timed(50, || verify::verify(&kernel))?;
    let (first_plan, _) = timed(20, || request.plan(&Device::cpu_with_threads(1)))?; // a new device has compiled nothing
    let (cached_plan, plan) = timed(2000, || request.plan(&device))?;

    println!("trace                     {trace:>12.1?}   {} instructions", kernel.count());
    println!("verify                    {verify:>12.1?}");
    println!("first plan, compiled      {first_plan:>12.1?}   with a device of one thread made for it");
    println!("plan, found again         {cached_plan:>12.1?}");

    // One query and one key: what is left is the relaunch.
    let one = Tensor::zeros(Elem::F32, &[1, 1, 1, 16])?;
    let small = Attention::new(one.view(), one.view(), one.view());
    let mut o = Tensor::zeros(Elem::F32, &[1, 1, 1, 16])?;
    let (relaunch, ()) = timed(2000, || small.run_into(&device, o.view_mut(), None))?;
    println!("relaunch, 1 query, 1 key  {relaunch:>12.1?}   planning, launch and arithmetic, one program");
    let again = small.plan(&device)?;
    let mut workspace = again.workspace()?;
    let (relaunch, ()) = timed(2000, || again.run_with(&small, o.view_mut(), None, &mut workspace))?;
    println!("the same, planned         {relaunch:>12.1?}   the request held against the plan, launch and arithmetic");
    let two = Tensor::zeros(Elem::F32, &[1, 2, 1, 16])?;
    let small = Attention::new(two.view(), two.view(), two.view());
    let mut o = Tensor::zeros(Elem::F32, &[1, 2, 1, 16])?;
    let (relaunch, ()) = timed(2000, || small.run_into(&device, o.view_mut(), None))?;
    println!("the same, 2 heads         {relaunch:>12.1?}   two programs: too few to wake a thread for");

    let mut o = Tensor::zeros(Elem::F32, &[1, 16, 256, 128])?;
    let mut lse = Tensor::zeros(Elem::F32, &[1, 16, 256])?;
    let (fast, ()) = timed(20, || plan.run(&request, o.view_mut(), Some(lse.view_mut())))?;
    let interp = Device::interp();
    let (slow, ()) = timed(3, || request.run_into(&interp, o.view_mut(), Some(lse.view_mut())))?;
    let ratio = slow.as_secs_f64() / fast.as_secs_f64();
    println!("Hq16 Hkv4 D128 L256       {fast:>12.1?}   causal f32 on {} threads", device.info().threads);
    println!("the interpreter           {slow:>12.1?}   {ratio:.0} times as long");
    Ok(())
}

/// The median time of `rounds` calls after one that does not count, and what the last call gave.
fn timed<T, E: Error + 'static>(rounds: usize, mut f: impl FnMut() -> Result<T, E>) -> Result<(Duration, T), E> {
    let mut last = f()?;
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        last = f()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok((times[times.len() / 2], last))
}
