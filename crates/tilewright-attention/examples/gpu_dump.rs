//! Scratch: writes sources and their argument layouts.
use std::collections::BTreeMap;
use std::io::Write;
use tilewright_attention::library;
use tilewright_compile::gpu::{Access16, ArgumentSlot, Dialect, Target, compile};
use tilewright_compile::pass::run_gpu;
use tilewright_ir::{Type, Work};

fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let dialect = if std::env::args().nth(2).as_deref() == Some("msl") { Dialect::Msl } else { Dialect::Cuda };
    let library = library();
    let mut meta = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let mut words = line.split_whitespace();
        let (Some(name), Some(kernel)) = (words.next(), words.next()) else { continue };
        let mut text = BTreeMap::new();
        let mut work = None;
        for word in words {
            let (key, value) = word.split_once('=').unwrap();
            if key == "work" {
                let n: Vec<u32> = value.split(',').map(|x| x.parse().unwrap()).collect();
                work = Some(Work { rows: n[0], columns: n[1], stages: n[2], blocks: n[3] });
            } else {
                text.insert(key.to_string(), value.to_string());
            }
        }
        let entry = library.find(kernel).unwrap();
        let text = match (entry.complete)(text) {
            Ok(t) => t,
            Err(e) => {
                println!("{name}: {e}");
                continue;
            }
        };
        let mut kernel = match entry.spec.trace(&text) {
            Ok(k) => run_gpu(k, None).unwrap(),
            Err(e) => {
                println!("{name}: {e:?}");
                continue;
            }
        };
        kernel.work = work;
        let views = kernel.params.iter().filter(|p| matches!(kernel.ty(p.value), Type::View { .. })).count();
        let target = Target { dialect, compute: 90, shared_bytes: 227 << 10 };
        let source = match compile(&kernel, &target, &vec![Access16::Aligned; views]) {
            Ok(s) => s,
            Err(e) => {
                println!("{name}: {e}");
                continue;
            }
        };
        std::fs::write(format!("{dir}/{name}.cu"), &source.text).unwrap();
        let params: Vec<String> = source.arguments.params.iter().map(|p| match p.slot {
            ArgumentSlot::View { pointer, elem, rank, strides, lens, .. } => format!(
                r#"{{"name":"{}","kind":"view","pointer":{pointer},"elem":"{elem}","rank":{rank},"strides":{strides},"lens":{lens}}}"#, p.name),
            ArgumentSlot::Scalar { elem, at } => format!(r#"{{"name":"{}","kind":"scalar","elem":"{elem}","at":{at}}}"#, p.name),
        }).collect();
        meta.push(format!(r#"{{"name":"{name}","entry":"{}","threads":{},"shared":{},"args_bytes":{},"cubin":"{name}.cubin","spec":"{line}","params":[{}]}}"#,
            source.entry, source.threads, source.shared_bytes, source.arguments.bytes, params.join(",")));
    }
    let mut f = std::fs::File::create(format!("{dir}/meta.json")).unwrap();
    write!(f, "[{}]", meta.join(",\n")).unwrap();
}
