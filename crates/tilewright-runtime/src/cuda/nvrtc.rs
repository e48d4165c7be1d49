//! NVRTC, loaded when it is first needed: CUDA C++ to machine code, with or without a driver.
//!
//! The library is looked for at the path in `TILEWRIGHT_NVRTC`, then by name where the system looks for libraries, then in
//! `CUDA_HOME`, `CUDA_PATH` and `/usr/local/cuda`. Its headers (`cuda_fp16.h`, `cuda_bf16.h`) are looked for in
//! `TILEWRIGHT_CUDA_INCLUDE`, then in the folder `include` beside the library, then in those places.

use super::Resources;
use crate::error::DeviceError;
use libloading::Library;
use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

type Program = *mut c_void;
type Status = c_int;
const INVALID_OPTION: Status = 5;

/// Compiles again what was compiled before.
const NO_CACHE: &str = "--no-cache";

/// The library's functions; the signatures are those of `nvrtc.h`.
pub(super) struct Nvrtc {
    version: (u32, u32),
    include: Option<PathBuf>,
    /// Where headers were looked for.
    include_tried: Vec<PathBuf>,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    /// Never unloaded: the functions above are in it.
    _library: Library,
}

/// Machine code of one kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cubin {
    /// An ELF file for the driver.
    pub bytes: Vec<u8>,
    /// What it takes of a multiprocessor.
    pub resources: Resources,
}

impl Nvrtc {
    /// The library of this process.
    pub fn get() -> Result<&'static Nvrtc, DeviceError> {
        static LOADED: OnceLock<Result<Nvrtc, DeviceError>> = OnceLock::new();
        LOADED.get_or_init(Nvrtc::load).as_ref().map_err(Clone::clone)
    }

    /// Major and minor version of CUDA.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    fn load() -> Result<Nvrtc, DeviceError> {
        let mut tried = Vec::new();
        for candidate in candidates() {
            match open(&candidate) {
                Ok(library) => return Nvrtc::bind(library, &candidate),
                // A file that is there and cannot be loaded says why: it may be damaged, or want another library.
                Err(error) if candidate.is_file() => {
                    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                    tried.push(format!("{}: {reason}", candidate.display()));
                }
                Err(_) => tried.push(candidate.display().to_string()),
            }
        }
        Err(DeviceError::NoNvrtc { tried: tried.join(", ") })
    }

    fn bind(library: Library, path: &Path) -> Result<Nvrtc, DeviceError> {
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is that of the function's declaration in nvrtc.h, the same since CUDA 11.1; it is called
                // only while the library is loaded.
                *unsafe { library.get($name) }.map_err(|e| DeviceError::Call {
                    call: "opening NVRTC",
                    reason: format!("{} is too old or damaged: {e}", path.display()),
                })?
            };
        }
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status = symbol!(b"nvrtcVersion");
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both point to integers that outlive the call.
        unsafe { version(&mut major, &mut minor) };
        let include_tried = include_folders(path);
        Ok(Nvrtc {
            version: (major as u32, minor as u32),
            include: include_tried.iter().find(|folder| folder.join("cuda_fp16.h").is_file()).cloned(),
            include_tried,
            error_string: symbol!(b"nvrtcGetErrorString"),
            create: symbol!(b"nvrtcCreateProgram"),
            destroy: symbol!(b"nvrtcDestroyProgram"),
            compile: symbol!(b"nvrtcCompileProgram"),
            log_size: symbol!(b"nvrtcGetProgramLogSize"),
            log: symbol!(b"nvrtcGetProgramLog"),
            cubin_size: symbol!(b"nvrtcGetCUBINSize"),
            cubin: symbol!(b"nvrtcGetCUBIN"),
            ptx_size: symbol!(b"nvrtcGetPTXSize"),
            ptx: symbol!(b"nvrtcGetPTX"),
            _library: library,
        })
    }

    /// What a text is compiled with, apart from where headers lie.
    pub fn options(arch: &str) -> Vec<String> {
        let arch = format!("--gpu-architecture={arch}");
        vec![arch, "--std=c++17".into(), "-default-device".into(), "--ptxas-options=-v".into()]
    }

    /// Machine code of a source.
    ///
    /// # Errors
    /// [`DeviceError::NoCudaHeaders`], [`DeviceError::Compile`] with NVRTC's words, [`DeviceError::Call`].
    pub fn compile(&self, text: &str, arch: &'static str) -> Result<Cubin, DeviceError> {
        let mut options = self.all_options(text, arch)?;
        match self.cubin_with(text, arch, &options) {
            // An NVRTC or assembler that does not take these options compiles without them; the resources are unknown then.
            Err((INVALID_OPTION, _)) => {
                options.retain(|option| !option.starts_with("--ptxas-options") && option != NO_CACHE);
                self.cubin_with(text, arch, &options).map_err(|(_, error)| error)
            }
            other => other.map_err(|(_, error)| error),
        }
    }

    /// The assembly of a source, for this architecture and later ones.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn ptx(&self, text: &str, arch: &'static str) -> Result<String, DeviceError> {
        // A virtual architecture stops before machine code; with the `a` of sm_90a it would serve no later GPU.
        let of = self.all_options(text, arch)?.into_iter().filter(|option| !option.starts_with("--ptxas-options"));
        let options: Vec<String> = of
            .map(|option| match option.split_once("=sm_") {
                Some((name, number)) => format!("{name}=compute_{}", number.trim_end_matches('a')),
                None => option,
            })
            .collect();
        let ptx = self
            .compile_with(text, arch, &options)
            .and_then(|(program, _)| program.read("nvrtcGetPTX", self.ptx_size, self.ptx));
        let ptx = ptx.map_err(|(_, error)| error)?;
        Ok(String::from_utf8_lossy(&ptx).trim_end_matches('\0').to_string())
    }

    /// [`options`](Self::options), and where the headers are that a text includes.
    fn all_options(&self, text: &str, arch: &str) -> Result<Vec<String>, DeviceError> {
        let mut options = Nvrtc::options(arch);
        // What NVRTC remembers it gives without the assembler's words, where it remembers: beside a driver, from 13.0 on.
        if self.version >= (13, 0) {
            options.push(NO_CACHE.into());
        }
        match &self.include {
            Some(folder) => options.push(format!("-I{}", folder.display())),
            None if text.contains("cuda_fp16.h") || text.contains("cuda_bf16.h") => {
                let tried: Vec<_> = self.include_tried.iter().map(|folder| folder.display().to_string()).collect();
                return Err(DeviceError::NoCudaHeaders { tried: tried.join(", ") });
            }
            None => {}
        }
        Ok(options)
    }

    fn cubin_with(&self, text: &str, arch: &'static str, options: &[String]) -> Result<Cubin, (Status, DeviceError)> {
        let (program, log) = self.compile_with(text, arch, options)?;
        let bytes = program.read("nvrtcGetCUBIN", self.cubin_size, self.cubin)?;
        Ok(Cubin { bytes, resources: Resources::parse(&log) })
    }

    /// The compiled program, and what the compiler said.
    fn compile_with(
        &self,
        text: &str,
        arch: &'static str,
        options: &[String],
    ) -> Result<(Guard<'_>, String), (Status, DeviceError)> {
        let nul = |_| (0, DeviceError::Call { call: "nvrtcCreateProgram", reason: "a zero byte in the source".into() });
        let text = CString::new(text).map_err(nul)?;
        let options: Result<Vec<CString>, _> = options.iter().map(|o| CString::new(o.as_str())).collect();
        let options = options.map_err(nul)?;
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let mut program = Guard { nvrtc: self, program: std::ptr::null_mut() };
        // SAFETY: the text ends in a zero byte and outlives the program; no headers are given, so their arrays may be null.
        let made = unsafe {
            let none = std::ptr::null();
            (self.create)(&mut program.program, text.as_ptr(), c"kernel.cu".as_ptr(), 0, none, none)
        };
        self.check("nvrtcCreateProgram", made)?;
        // SAFETY: a program that was made, and as many options as are said, each ending in a zero byte.
        let compiled = unsafe { (self.compile)(program.program, pointers.len() as c_int, pointers.as_ptr()) };
        let log = program.read("nvrtcGetProgramLog", self.log_size, self.log)?;
        let log = String::from_utf8_lossy(&log);
        let log = log.trim_end_matches('\0').trim().to_string();
        if compiled != 0 {
            let log = if log.is_empty() { self.describe(compiled) } else { log };
            return Err((compiled, DeviceError::Compile { arch, log }));
        }
        Ok((program, log))
    }

    fn check(&self, call: &'static str, status: Status) -> Result<(), (Status, DeviceError)> {
        if status == 0 {
            return Ok(());
        }
        Err((status, DeviceError::Call { call, reason: self.describe(status) }))
    }

    fn describe(&self, status: Status) -> String {
        // SAFETY: returns a constant text for every number.
        let text = unsafe { (self.error_string)(status) };
        if text.is_null() {
            return format!("error {status}");
        }
        // SAFETY: a constant text that ends in a zero byte.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// A program that is released.
struct Guard<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Guard<'_> {
    /// What one of the pairs of functions for size and content gives.
    fn read(
        &self,
        call: &'static str,
        size: unsafe extern "C" fn(Program, *mut usize) -> Status,
        content: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ) -> Result<Vec<u8>, (Status, DeviceError)> {
        let mut bytes = 0;
        // SAFETY: a program that was made; the size is written to an integer that outlives the call.
        self.nvrtc.check(call, unsafe { size(self.program, &mut bytes) })?;
        let mut out = vec![0u8; bytes];
        // SAFETY: there is room for as many bytes as were said.
        self.nvrtc.check(call, unsafe { content(self.program, out.as_mut_ptr().cast()) })?;
        Ok(out)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: made by this library, and used by nobody else. A failure leaves nothing to do.
            unsafe { (self.nvrtc.destroy)(&mut self.program) };
        }
    }
}

/// Folders of CUDA installations that are known by name.
fn toolkits() -> Vec<PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).filter(|v| !v.is_empty());
    named.map(PathBuf::from).chain([PathBuf::from("/usr/local/cuda")]).collect()
}

/// Where the library may be: the path that was asked for and nothing else, or names and known places, newest first.
fn candidates() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("TILEWRIGHT_NVRTC").filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let names: &[&str] = match cfg!(windows) {
        true => &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"],
        false => &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
    };
    let folder = if cfg!(windows) { "bin" } else { "lib64" };
    let placed = toolkits().into_iter().flat_map(|root| names.iter().map(move |name| root.join(folder).join(name)));
    names.iter().map(PathBuf::from).chain(placed).collect()
}

/// Opens the library and, before it, the library of built-in functions that it asks for by name.
fn open(path: &Path) -> Result<Library, libloading::Error> {
    if path.is_absolute() {
        for builtins in beside(path, "nvrtc-builtins") {
            if let Ok(library) = open_one(&builtins) {
                std::mem::forget(library); // NVRTC finds it as long as it is loaded
            }
        }
    }
    open_one(path)
}

#[cfg(unix)]
fn open_one(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::unix::{Library as Unix, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: what NVRTC and its built-in functions do when they are loaded touches nothing of this process.
    unsafe { Unix::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map(Library::from)
}

#[cfg(not(unix))]
fn open_one(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: what NVRTC and its built-in functions do when they are loaded touches nothing of this process.
    unsafe { Library::new(path) }
}

/// Files in the folder of `path` whose name has this part, without debugging variants.
fn beside(path: &Path, part: &str) -> Vec<PathBuf> {
    let Some(entries) = path.parent().and_then(|folder| std::fs::read_dir(folder).ok()) else { return Vec::new() };
    let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let fits = |path: &PathBuf| {
        path.file_name().and_then(|n| n.to_str()).is_some_and(|name| name.contains(part) && !name.contains(".alt"))
    };
    files.filter(fits).collect()
}

/// Where headers may be, for the library that was opened.
fn include_folders(library: &Path) -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("TILEWRIGHT_CUDA_INCLUDE").filter(|folder| !folder.is_empty()) {
        return vec![folder.into()];
    }
    let opened = if library.is_absolute() { Some(library.to_path_buf()) } else { loaded_from() };
    let opened = opened.and_then(|path| Some(path.canonicalize().ok()?.parent()?.parent()?.join("include")));
    opened.into_iter().chain(toolkits().into_iter().map(|root| root.join("include"))).collect()
}

/// The path of a library that the system found by name; on Linux the process's own memory map says it.
fn loaded_from() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = |line: &str| line.find('/').map(|at| line[at..].to_string());
    maps.lines().filter_map(path).find(|path| path.contains("libnvrtc.so")).map(PathBuf::from)
}
