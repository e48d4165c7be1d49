//! Where files that only save time are kept.

use std::path::PathBuf;

/// `TILEWRIGHT_CACHE`, or `tilewright` in the user's cache folder: `XDG_CACHE_HOME` or `~/.cache`, on Windows `LOCALAPPDATA`.
/// `None` where none of them is set to an absolute path. The folder may not exist yet.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("TILEWRIGHT_CACHE") {
        return Some(folder);
    }
    let caches = match cfg!(windows) {
        true => set("LOCALAPPDATA"),
        false => set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))),
    };
    caches.filter(|folder| folder.is_absolute()).map(|folder| folder.join("tilewright"))
}
