//! From a kernel's text to a program that runs it.

use crate::error::{HarnessError, Missing};
use crate::{Module, Options, Sanitizer, glue, spaces};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use tilewright_compile::gpu::{Dialect, Source};

/// The C++ side, which is compiled with every kernel (headers) or once (the runtime).
const SHIM: [(&str, &str); 11] = [
    ("warp.h", include_str!("../shim/warp.h")),
    ("cuda.h", include_str!("../shim/cuda.h")),
    ("metal.h", include_str!("../shim/metal.h")),
    ("runtime.h", include_str!("../shim/runtime.h")),
    ("fibers.cpp", include_str!("../shim/fibers.cpp")),
    ("operations.cpp", include_str!("../shim/operations.cpp")),
    ("copies.cpp", include_str!("../shim/copies.cpp")),
    ("main.cpp", include_str!("../shim/main.cpp")),
    // What kernels include comes with the shim.
    ("metal_stdlib", "#pragma once\n"),
    ("cuda_fp16.h", "#pragma once\n"),
    ("cuda_bf16.h", "#pragma once\n"),
];
const RUNTIME: [&str; 4] = ["fibers", "operations", "copies", "main"];

/// Reports name lines of the kernel's text.
const DEBUG: &str = "-gline-tables-only";

/// What is compiled depends on these files too.
const BUILD: [&str; 2] = [include_str!("build.rs"), include_str!("spaces.rs")];

/// For all of it: no fast mathematics, half rounds after each operation, signed integers wrap.
const FLAGS: [&str; 11] = [
    "-std=c++20",
    "-march=x86-64-v3",
    "-ffp-contract=off",
    "-fexcess-precision=16",
    "-fwrapv",
    "-fno-strict-aliasing",
    "-fno-strict-float-cast-overflow",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-optimize-sibling-calls", // a return address says where in the kernel a barrier stands
    "-w",
];

/// A compiler that was found, and the folder where its results are kept. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Harness {
    clang: String,
    /// Of this compiler and this shim.
    folder: PathBuf,
}

impl Harness {
    /// Finds clang: `TILEWRIGHT_CLANG`, or else `clang-19` and later, or else `clang`.
    ///
    /// # Errors
    /// No clang of version 19 or later, or a machine that fibers are not written for. A test then says so and ends.
    pub fn available() -> Result<Harness, Missing> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(Missing::Machine { arch: std::env::consts::ARCH, os: std::env::consts::OS });
        }
        let tried = match std::env::var("TILEWRIGHT_CLANG") {
            Ok(path) => vec![path],
            Err(_) => ["clang-19", "clang-20", "clang-21", "clang"].map(String::from).to_vec(),
        };
        let found = tried.iter().find_map(|clang| Some((clang.clone(), version(clang)?)));
        let Some((clang, version)) = found else { return Err(Missing::Clang { tried }) };
        let root = std::env::var_os("TILEWRIGHT_HARNESS_CACHE")
            .map_or_else(|| std::env::temp_dir().join("tilewright-harness"), PathBuf::from);
        let folder = root.join(digest(&(&clang, version, SHIM, BUILD)));
        Ok(Harness { clang, folder })
    }

    /// Compiles a rendered kernel, or finds it compiled. Takes a few tenths of a second.
    ///
    /// # Errors
    /// [`HarnessError::Compile`] with the compiler's words; [`HarnessError::Text`] where the kernel's parameters are not as
    /// [`Source`] says.
    pub fn compile(&self, source: &Source, options: Options) -> Result<Module, HarnessError> {
        let program = glue::program(source)?;
        let folder = self.folder.join(digest(&(&program, options)));
        let executable = folder.join("kernel");
        if !executable.exists() {
            let objects = self.runtime(options.sanitizer)?;
            let (header, name) = match source.dialect {
                Dialect::Cuda => ("cuda.h", "kernel.cu"),
                Dialect::Msl => ("metal.h", "kernel.metal"),
            };
            let text = folder.join(name);
            write(&text, &program)?;
            let mut command = self.clang(options.sanitizer);
            command.args(["-O2", "-fno-vectorize", "-fno-slp-vectorize"]);
            // Duplicated code would give one barrier two places.
            command.args(["-mllvm", "-tail-dup-placement=false", "-mllvm", "-disable-tail-duplicate"]);
            command.args(["-mllvm", "-disable-early-taildup"]);
            match source.dialect {
                Dialect::Cuda => self.front(&mut command, header, &text),
                Dialect::Msl => {
                    let ir = self.one_space(source, &text, options.sanitizer)?;
                    command.args(["-x", "ir"]).arg(ir)
                }
            };
            command.args(["-x", "none"]).args(&objects).arg("-lm");
            build(command, &executable, &source.entry)?;
        }
        Ok(Module::new(executable, source, options))
    }

    /// What the compiler needs to know to read a kernel's text.
    fn front<'a>(&self, command: &'a mut Command, header: &str, text: &Path) -> &'a mut Command {
        let shim = self.folder.join("shim");
        command.args(["-nostdinc", "-DTILEWRIGHT_HARNESS"]).arg("-I").arg(&shim).arg("-include").arg(shim.join(header));
        command.args(["-x", "c++"]).arg(text)
    }

    /// A Metal kernel as IR, after its address spaces were checked. Sanitizers get it without them.
    fn one_space(&self, source: &Source, text: &Path, sanitizer: Option<Sanitizer>) -> Result<PathBuf, HarnessError> {
        let mut command = self.clang(sanitizer);
        command.args(["-O2", "-S", "-emit-llvm", DEBUG, "-Xclang", "-disable-llvm-passes"]);
        command.args(["-Xclang", "-cl-single-precision-constant"]);
        self.front(&mut command, "metal.h", text).args(["-o", "-"]);
        let ir = compile(command, &source.entry)?;
        if let Some(line) = spaces::cast(&ir) {
            let output = format!("{}:{line}: error: a pointer is cast to another address space", text.display());
            return Err(HarnessError::Compile { kernel: source.entry.clone(), output });
        }
        let path = text.with_extension("ll");
        let ir = spaces::aligned(&ir);
        write(&path, &if sanitizer.is_some() { spaces::flattened(&ir) } else { ir })?;
        Ok(path)
    }

    /// The runtime's objects, compiled when they are not there yet.
    fn runtime(&self, sanitizer: Option<Sanitizer>) -> Result<Vec<PathBuf>, HarnessError> {
        let shim = self.folder.join("shim");
        for (name, text) in SHIM {
            let path = shim.join(name);
            if !path.exists() {
                write(&path, text)?;
            }
        }
        let (kind, define) = match sanitizer {
            None => ("plain", None),
            Some(Sanitizer::Address) => ("address", Some("-DTILEWRIGHT_ADDRESS")),
            Some(Sanitizer::Thread) => ("thread", Some("-DTILEWRIGHT_THREAD")),
        };
        RUNTIME
            .iter()
            .map(|part| {
                let object = self.folder.join(format!("{part}-{kind}.o"));
                if !object.exists() {
                    let mut command = Command::new(&self.clang);
                    command.args(FLAGS).args(["-O2", "-c"]).args(define).arg(shim.join(format!("{part}.cpp")));
                    build(command, &object, part)?;
                }
                Ok(object)
            })
            .collect()
    }

    fn clang(&self, sanitizer: Option<Sanitizer>) -> Command {
        let mut command = Command::new(&self.clang);
        command.args(FLAGS);
        // GPUs fault on misaligned accesses, and shift and index registers in ways of their own.
        command.args(["-fsanitize=alignment,array-bounds,shift-exponent"]);
        match sanitizer {
            None => command.arg("-fsanitize-trap=all"),
            Some(Sanitizer::Address) => command.args(["-fsanitize=address", "-fno-sanitize-recover=all", DEBUG]),
            Some(Sanitizer::Thread) => command.args(["-fsanitize=thread", "-fsanitize-trap=undefined", DEBUG]),
        };
        command
    }
}

/// What the compiler says it is, when it is a clang of version 19 or later.
fn version(clang: &str) -> Option<String> {
    let output = Command::new(clang).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split("clang version ").nth(1)?.split('.').next()?;
    (number.parse::<u32>().ok()? >= 19).then_some(text)
}

/// Runs the compiler; the result appears under its name only when it is whole.
fn build(mut command: Command, result: &Path, kernel: &str) -> Result<(), HarnessError> {
    let partial = partial_name(result);
    command.arg("-o").arg(&partial);
    compile(command, kernel)?;
    std::fs::rename(&partial, result).map_err(io("rename", &partial))
}

/// Runs the compiler and returns what it prints.
fn compile(mut command: Command, kernel: &str) -> Result<String, HarnessError> {
    let output = command.output().map_err(io("run", Path::new(command.get_program())))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(HarnessError::Compile { kernel: kernel.to_string(), output });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn write(path: &Path, text: &str) -> Result<(), HarnessError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io("create", folder))?;
    }
    let partial = partial_name(path);
    std::fs::write(&partial, text).map_err(io("write", &partial))?;
    std::fs::rename(&partial, path).map_err(io("rename", &partial))
}

/// A name beside `path` that no other thread or process uses.
fn partial_name(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!("partial-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    path.with_extension(unique)
}

fn digest(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HarnessError {
    let path = path.display().to_string();
    move |error| HarnessError::Io { action, path, error }
}
