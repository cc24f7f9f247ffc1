//! Refuses to play hardware where there is hardware.

use std::path::{Path, PathBuf};

/// Device nodes by which a host or guest with a real TEE is known: SGX in the kernel and out of tree, SEV-SNP, TDX.
const DEVICES: [&str; 4] = ["dev/sgx_enclave", "dev/sgx/enclave", "dev/sev-guest", "dev/tdx_guest"];

/// This machine has a real TEE, where simulated evidence is probably a mistake.
#[derive(Debug, thiserror::Error)]
#[error("refusing to simulate a TEE: this machine has a real one at {}", device.display())]
pub struct RealTeePresent {
    device: PathBuf,
}

impl RealTeePresent {
    /// The device that was found.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// What to do next.
    pub fn hint(&self) -> &'static str {
        "run the program in the real TEE, or force the simulation if you mean it; simulated evidence protects nothing"
    }
}

/// The TEE device nodes below `system_root`, which is `/` outside of tests.
pub fn real_tee_devices(system_root: &Path) -> Vec<PathBuf> {
    DEVICES.iter().map(|device| system_root.join(device)).filter(|path| path.exists()).collect()
}

/// Succeeds where no TEE device exists below `system_root`. The caller skips this call where its user forces simulation.
///
/// # Errors
/// [`RealTeePresent`] naming the first device found.
pub fn refuse_on_real_tee(system_root: &Path) -> Result<(), RealTeePresent> {
    match real_tee_devices(system_root).into_iter().next() {
        Some(device) => Err(RealTeePresent { device }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rules: ATT-10.6
    #[test]
    fn every_tee_device_is_refused_by_name_and_a_plain_machine_is_not() {
        let root = tempfile::tempdir().unwrap();
        refuse_on_real_tee(root.path()).unwrap();
        for device in ["dev/sgx_enclave", "dev/sgx/enclave", "dev/sev-guest", "dev/tdx_guest"] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(device);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            let refused = refuse_on_real_tee(root.path()).unwrap_err();
            assert_eq!(refused.device(), path);
            assert!(refused.to_string().contains(device), "{refused}");
        }
    }
}
