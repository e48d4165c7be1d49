//! What the language does not support fails to compile, and says what to write instead.
//!
//! Each `ui/NAME.rs` must not compile; `ui/NAME.stderr` holds the headlines of its errors, their places, and those notes
//! and labels that this project wrote (rustc's own notes differ from version to version). `TILEWRIGHT_BLESS=1` rewrites
//! them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

const LEAST_CASES: usize = 30;
/// What people reach for first, each with the case of its wrong use; its right use is in `constructs.rs`.
const CONSTRUCTS: [(&str, &str); 15] = [
    ("a variable", "misspelt_variable"),
    ("a function", "unknown_function"),
    ("a method", "unknown_method"),
    ("`-=`", "subtract_assign_other_element"),
    ("`!mask`", "not_of_a_tile_that_is_no_mask"),
    ("`break`", "break_in_run_time_loop"),
    ("`for _ in`", "for_underscore_in_tile"),
    ("`let x: T = …`", "let_with_a_type_of_another_element"),
    ("`let y = if …`", "let_if_of_two_types"),
    ("a value used after being redefined in a loop", "redefined_in_a_loop_and_used_after"),
    ("`as`", "as_cast"),
    ("an inner macro", "inner_macro"),
    ("`while`", "while_on_the_device"),
    ("a closure", "closure_that_keeps_state"),
    ("an early `return`", "early_return_from_run_time_if"),
];
/// Shorter text in rustc's notes may stand in our sources by chance.
const SHORTEST_NOTE: usize = 20;

#[test]
fn what_is_not_supported_is_refused_with_a_reason() {
    let cases = files("rs");
    assert!(cases.len() >= LEAST_CASES, "{} cases, expected at least {LEAST_CASES}", cases.len());
    let compiler = Compiler::new();
    let bless = env::var_os("TILEWRIGHT_BLESS").is_some();
    let wrong = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, |n| n.get()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(reason) = check(&compiler, case, bless) {
                        wrong.lock().unwrap().push(format!("{}: {reason}", case.display()));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    let orphans = files("stderr").into_iter().filter(|f| !f.with_extension("rs").exists());
    wrong.extend(orphans.map(|f| format!("{}: no case has this expectation", f.display())));
    assert!(wrong.is_empty(), "{} of {} cases are wrong\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn each_construct_has_the_case_of_its_wrong_use() {
    for (construct, case) in CONSTRUCTS {
        assert!(ui().join(case).with_extension("rs").exists(), "{construct} has no case `{case}`");
    }
}

fn check(compiler: &Compiler, case: &Path, bless: bool) -> Result<(), String> {
    let Some(messages) = compiler.errors(case) else { return Err("compiles".into()) };
    if !messages.contains("error") {
        return Err("no error was found in what rustc says".into());
    }
    let expectation = case.with_extension("stderr");
    if bless {
        return fs::write(&expectation, messages).map_err(|e| e.to_string());
    }
    let expected = fs::read_to_string(&expectation).map_err(|e| format!("{e}; run with TILEWRIGHT_BLESS=1"))?;
    if messages == expected {
        return Ok(());
    }
    Err(format!("expected\n{expected}\nbut rustc says\n{messages}"))
}

fn ui() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(ui()).expect("the folder of cases");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry of it").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}

/// rustc, with the library that this test was built with.
struct Compiler {
    library: PathBuf,
    /// Where the library's own dependencies are.
    deps: Vec<PathBuf>,
    out: tempdir::TempDir,
    /// The text of this project's sources, to tell our notes from rustc's.
    ours: String,
}

impl Compiler {
    fn new() -> Compiler {
        let exe = env::current_exe().expect("the path of this test");
        let deps = exe.parent().expect("the folder of this test").to_path_buf();
        let libraries = fs::read_dir(&deps).expect("the folder of this test").filter_map(|e| {
            let path = e.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let found = name.starts_with("libtilewright_lang-") && name.ends_with(".rlib");
            found.then(|| Some((fs::metadata(&path).ok()?.modified().ok()?, path.clone()))).flatten()
        });
        // Older ones are left from earlier builds.
        let (_, library) = libraries.max().expect("the library that this test was built with");
        // With `--target`, procedural macros are in the folder of the host: `target/debug/deps` beside
        // `target/TRIPLE/debug/deps`.
        let profile = deps.parent().and_then(Path::file_name).map(PathBuf::from).unwrap_or_default();
        let host = deps.ancestors().nth(3).map(|target| target.join(profile).join("deps"));
        let deps = [Some(deps), host].into_iter().flatten().filter(|d| d.is_dir()).collect();
        let mut ours = String::new();
        for root in ["src", "../tilewright-macros/src"] {
            read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root), &mut ours);
        }
        Compiler { library, deps, out: tempdir::TempDir::new(), ours }
    }

    /// What rustc says about a case, or `None` when it compiles.
    fn errors(&self, case: &Path) -> Option<String> {
        let name = case.file_name().expect("a case has a name");
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.current_dir(ui()).args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--emit",
            "metadata",
            "--color",
            "never",
        ]);
        rustc.arg("-o").arg(self.out.path().join(name).with_extension("rmeta"));
        for deps in &self.deps {
            rustc.arg("-L").arg(format!("dependency={}", deps.display()));
        }
        rustc.arg("--extern").arg(format!("tilewright_lang={}", self.library.display())).arg(name);
        // The macros find the language by the manifest of the crate that they run in; a case has none.
        rustc.env_remove("CARGO_MANIFEST_DIR").env_remove("RUSTFLAGS");
        let output = rustc.output().expect("rustc runs");
        if output.status.success() {
            return None;
        }
        Some(self.normalise(&String::from_utf8_lossy(&output.stderr)))
    }

    /// The headlines, the places and our own notes.
    fn normalise(&self, stderr: &str) -> String {
        let mut text = String::new();
        let mut in_error = false;
        let mut place_follows = false;
        for line in stderr.lines() {
            if line.starts_with("error") || line.starts_with("warning") {
                in_error = line.starts_with("error")
                    && !line.starts_with("error: aborting")
                    && !line.starts_with("error: could not compile");
                place_follows = in_error;
                if in_error {
                    text.push_str(&without_modules(line));
                    text.push('\n');
                }
                continue;
            }
            let line = line.trim_start();
            if place_follows && let Some(place) = line.strip_prefix("--> ") {
                text.push_str(&format!("  --> {place}\n"));
                place_follows = false;
            }
            let note = line.strip_prefix("= note: ").or_else(|| line.strip_prefix("= help: "));
            if in_error && let Some(note) = note.filter(|n| n.len() > SHORTEST_NOTE && self.ours.contains(*n)) {
                text.push_str(&format!("   = note: {note}\n"));
            }
        }
        text
    }
}

/// `rt::Literal` as `Literal`: how much of a path rustc prints differs from version to version.
fn without_modules(line: &str) -> String {
    let mut parts = line.split("::").collect::<Vec<_>>().into_iter();
    let last = parts.next_back().unwrap_or_default();
    let mut text = String::new();
    for part in parts {
        let name = part.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let module = part[name..].starts_with(char::is_lowercase);
        text.push_str(if module { &part[..name] } else { part });
        if !module {
            text.push_str("::");
        }
    }
    text + last
}

fn read_sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            read_sources(&path, into);
        } else {
            into.push_str(&fs::read_to_string(&path).expect("a source file"));
        }
    }
}

/// A folder that goes when it is dropped.
mod tempdir {
    use std::path::{Path, PathBuf};
    use std::{env, fs, process};

    pub struct TempDir(PathBuf);

    impl TempDir {
        pub fn new() -> TempDir {
            let path = env::temp_dir().join(format!("tilewright-ui-{}", process::id()));
            fs::create_dir_all(&path).expect("a folder for what rustc writes");
            TempDir(path)
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // what stays is in the system's own temporary folder
        }
    }
}
