//! What the machine finds in its memory when it starts: this program with its libraries, the modules of its kernel, and busybox.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packs it into a file.
pub(crate) fn pack(inputs: &Path, file_system: &str, initrd: &Path) -> Result<(), String> {
    let tree = tempfile::tempdir().map_err(|error| error.to_string())?;
    fill(inputs, file_system, tree.path()).map_err(|error| format!("the initrd: {error}"))?;
    let to = fs::File::create(initrd).map_err(|error| error.to_string())?;
    let packed = Command::new("sh")
        .args(["-c", "find . | cpio --quiet -o -H newc"])
        .current_dir(tree.path())
        .stdout(to)
        .stdin(Stdio::null())
        .status();
    match packed {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("cpio: {other:?}")),
    }
}

fn fill(inputs: &Path, file_system: &str, tree: &Path) -> std::io::Result<()> {
    for directory in ["bin", "dev", "proc", "sys", "mounted", "modules", "tmp"] {
        fs::create_dir(tree.join(directory))?;
    }
    fs::copy(inputs.join("busybox"), tree.join("bin/busybox"))?;
    fs::copy(inputs.join("disk.ko"), tree.join("disk.ko"))?;
    for module in fs::read_dir(inputs.join("modules").join(file_system))? {
        let module = module?;
        fs::copy(module.path(), tree.join("modules").join(module.file_name()))?;
    }
    fs::write(tree.join("file_system"), file_system)?;
    fs::write(tree.join("init"), include_str!("init.sh"))?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    let program = std::env::current_exe()?;
    for library in libraries(&program)? {
        let inside = tree.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(inside.parent().unwrap_or(tree))?;
        fs::copy(&library, inside)?;
    }
    // Without what a debugger would want it is a tenth of it, which is read into memory for each run.
    let stripped = Command::new("strip").arg("-o").arg(tree.join("program")).arg(&program).status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(&program, tree.join("program"))?;
    }
    Ok(())
}

/// All that a program is linked with, by `ldd`: each line has an absolute path, behind an arrow or alone.
fn libraries(program: &Path) -> std::io::Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
