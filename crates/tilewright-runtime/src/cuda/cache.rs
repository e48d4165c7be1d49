//! Machine code that was compiled before: in memory for this process, on disk for the next one.
//!
//! The folder is [`cache_folder`], open to the user alone. A file's name is the hash of what it was compiled from. It is used only if it says so
//! itself and the hash of its content fits, so a damaged or foreign file is compiled again. Without a folder that can be
//! written everything works, and is compiled once a process.

use super::{Cubin, Resources};
use crate::folder::cache_folder;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Of this program and of this order of fields.
const MAGIC: &[u8; 8] = b"TILECUB1";
const HEADER: usize = MAGIC.len() + 32 + 32 + Resources::BYTES;

/// What the machine code depends on, hashed.
pub(super) type Key = [u8; 32];

/// The hash of these parts and of where each ends.
pub(super) fn key(parts: &[&str]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// Both caches.
#[derive(Default)]
pub(super) struct Cache {
    memory: Mutex<HashMap<Key, Arc<Cubin>>>,
    folder: Option<PathBuf>,
}

impl Cache {
    /// With the user's folder.
    pub fn of_user() -> Cache {
        Cache::at(cache_folder())
    }

    /// With this folder on disk, or none. The folder is made when something is stored.
    pub fn at(folder: Option<PathBuf>) -> Cache {
        Cache { folder, ..Cache::default() }
    }

    /// The machine code of this key, made by `compile` when it is neither in memory nor on disk. A failure is not kept.
    pub fn get_or<E>(&self, key: &Key, compile: impl FnOnce() -> Result<Cubin, E>) -> Result<Arc<Cubin>, E> {
        let found = self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(found) = found {
            return Ok(found);
        }
        let path = self.folder.as_ref().map(|folder| folder.join(format!("{}.cubin", hex(key))));
        let cubin = match path.as_deref().filter(|path| is_private(path.parent())).and_then(|path| read(path, key)) {
            Some(cubin) => cubin,
            None => {
                let cubin = compile()?;
                if let Some(path) = &path {
                    // A disk that is full or read-only costs the next process a compilation, and nothing else.
                    let _ = write(path, key, &cubin);
                }
                cubin
            }
        };
        let cubin = Arc::new(cubin);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(*key, cubin.clone());
        Ok(cubin)
    }
}

fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether nobody but its owner may write to a folder: others could leave code there.
#[cfg(unix)]
fn is_private(folder: Option<&Path>) -> bool {
    use std::os::unix::fs::PermissionsExt;
    folder.and_then(|folder| folder.metadata().ok()).is_some_and(|data| data.permissions().mode() & 0o022 == 0)
}

#[cfg(not(unix))]
fn is_private(folder: Option<&Path>) -> bool {
    folder.is_some_and(Path::is_dir)
}

/// The content of a file of this key, if that is what it is.
fn read(path: &Path, key: &Key) -> Option<Cubin> {
    let file = std::fs::read(path).ok()?;
    let (header, bytes) = file.split_at_checked(HEADER)?;
    let (magic, rest) = header.split_at(MAGIC.len());
    let (hash, body) = rest.split_at(32);
    let fits = magic == MAGIC && &body[..32] == key && content_hash(body, bytes) == hash;
    let resources = Resources::from_bytes(body[32..].try_into().ok()?);
    fits.then(|| Cubin { bytes: bytes.to_vec(), resources })
}

fn content_hash(body: &[u8], bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(body).chain_update(bytes).finalize().into()
}

/// Writes to a file of another name and renames it, so that no reader sees a part.
fn write(path: &Path, key: &Key, cubin: &Cubin) -> std::io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let Some(folder) = path.parent() else { return Ok(()) };
    make_private(folder)?;
    if !is_private(Some(folder)) {
        return Ok(()); // it would not be read
    }
    let body = [key.as_slice(), &cubin.resources.to_bytes()].concat();
    let hash = content_hash(&body, &cubin.bytes);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let part = path.with_extension(format!("{}-{number}.part", std::process::id()));
    let written = std::fs::write(&part, [MAGIC.as_slice(), &hash, &body, &cubin.bytes].concat());
    let renamed = written.and_then(|()| std::fs::rename(&part, path));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&part); // it may never have been made
    }
    renamed
}

/// Makes the folder for the user alone; one that is there keeps its mode.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("tilewright-cache-{}-{test}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Folder(path)
        }

        /// What a new process gets, and whether it had to compile.
        fn ask(&self, key: &Key) -> (Arc<Cubin>, bool) {
            let mut compiled = false;
            let compile = || {
                compiled = true;
                Ok::<_, ()>(sample(7))
            };
            (Cache::at(Some(self.0.clone())).get_or(key, compile).unwrap(), compiled)
        }

        fn file(&self) -> PathBuf {
            let files: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().path()).collect();
            assert_eq!(files.len(), 1, "{files:?}");
            files[0].clone()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn sample(registers: u32) -> Cubin {
        Cubin {
            bytes: vec![0x7f, b'E', b'L', b'F', 1, 2, 3],
            resources: Resources { registers, ..Resources::default() },
        }
    }

    #[test]
    fn what_one_process_compiled_the_next_one_reads() {
        let folder = Folder::new("next");
        let key = key(&["text", "sm_90a"]);
        let (first, compiled) = folder.ask(&key);
        assert!(compiled);
        let (second, compiled) = folder.ask(&key);
        assert!(!compiled);
        assert_eq!((&*first, &*second), (&sample(7), &sample(7)));
    }

    #[test]
    fn in_one_process_the_disk_is_not_asked_again() {
        let cache = Cache::at(None);
        let key = key(&["text"]);
        assert!(cache.get_or(&key, || Ok::<_, ()>(sample(1))).is_ok());
        assert_eq!(cache.get_or(&key, || Err("compiled twice")).unwrap().resources.registers, 1);
        assert_eq!(cache.get_or(&super::key(&["other"]), || Err("a failure")), Err("a failure"));
    }

    #[test]
    fn a_file_damaged_anywhere_is_compiled_again() {
        let folder = Folder::new("damaged");
        let key = key(&["text"]);
        folder.ask(&key);
        let good = std::fs::read(folder.file()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(folder.file(), &bad).unwrap();
            let (cubin, compiled) = folder.ask(&key);
            assert!(compiled, "byte {at}");
            assert_eq!(*cubin, sample(7));
            assert_eq!(std::fs::read(folder.file()).unwrap(), good, "the file is written anew");
        }
    }

    #[test]
    fn a_truncated_or_longer_file_is_compiled_again() {
        let folder = Folder::new("truncated");
        let key = key(&["text"]);
        folder.ask(&key);
        let good = std::fs::read(folder.file()).unwrap();
        for length in 0..good.len() {
            std::fs::write(folder.file(), &good[..length]).unwrap();
            assert!(folder.ask(&key).1, "{length} bytes");
        }
        std::fs::write(folder.file(), [good.as_slice(), b"x"].concat()).unwrap();
        assert!(folder.ask(&key).1);
    }

    #[test]
    fn a_whole_file_of_another_kernel_is_not_taken() {
        let folder = Folder::new("foreign");
        let (mine, other) = (key(&["mine"]), key(&["other"]));
        folder.ask(&other);
        let file = folder.file();
        std::fs::rename(&file, file.with_file_name(format!("{}.cubin", hex(&mine)))).unwrap();
        assert!(folder.ask(&mine).1);
    }

    #[test]
    fn keys_tell_parts_apart() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
    }

    #[test]
    fn writers_at_once_leave_one_whole_file() {
        let folder = Folder::new("writers");
        let key = key(&["text"]);
        let big = Cubin { bytes: vec![0xa5; 1 << 20], ..sample(7) };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let cache = Cache::at(Some(folder.0.clone()));
                        assert_eq!(*cache.get_or(&key, || Ok::<_, ()>(big.clone())).unwrap(), big);
                        write(&folder.file_of(&key), &key, &big).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&folder.file(), &key), Some(big), "and no part is left beside it");
    }

    impl Folder {
        fn file_of(&self, key: &Key) -> PathBuf {
            self.0.join(format!("{}.cubin", hex(key)))
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let folder = Folder::new("none");
        std::fs::write(&folder.0, b"a file where the folder would be").unwrap();
        assert!(folder.ask(&key(&["text"])).1);
        std::fs::remove_file(&folder.0).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_is_the_users_alone_and_one_open_to_others_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("private");
        let key = key(&["text"]);
        folder.ask(&key);
        assert_eq!(folder.0.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(folder.ask(&key).1);
    }
}
