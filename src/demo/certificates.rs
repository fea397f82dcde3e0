//! What the two relays prove themselves with: one development authority, a certificate for each side that covers all
//! of its domains, in a private folder that is removed when the demo ends.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::DemoError;
use crate::identity::development::write_development_certificates;
use crate::relay::settings::{Identity, Trust};
use crate::xmpp::domain::Domain;

/// The folder; removed when dropped.
#[derive(Debug)]
pub(super) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Make the authority, and for each side a certificate for all its domains.
    pub(super) fn make(sides: [&[Domain]; 2], per_host: bool) -> Result<Self, DemoError> {
        let certificates = Self { folder: private_folder().map_err(DemoError::Certificates)? };
        for domains in sides {
            certificates.make_side(domains, per_host).map_err(DemoError::Certificates)?;
        }
        Ok(certificates)
    }

    /// Each side has a folder of its own, named for its first domain.
    fn make_side(&self, domains: &[Domain], per_host: bool) -> io::Result<()> {
        let folder = self.side(domains);
        std::fs::create_dir_all(&folder)?;
        let each = if per_host { 1 } else { domains.len().max(1) };
        for covered in domains.chunks(each) {
            write_development_certificates(&self.folder, covered)?;
            let name = covered.first().map_or_else(String::new, Domain::to_ascii);
            std::fs::rename(self.folder.join("live").join(&name), folder.join(name))?;
        }
        Ok(())
    }

    fn side(&self, domains: &[Domain]) -> PathBuf {
        self.folder.join("sides").join(domains.first().map_or_else(String::new, Domain::to_ascii))
    }

    /// What the relay with these domains shows, and whom it believes.
    pub(super) fn identity(&self, domains: &[Domain]) -> Identity {
        Identity {
            certificates: self.side(domains),
            trust: Trust::File(self.folder.join("ca.pem")),
            mux_key_file: None,
        }
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // Keys that nobody believes any more: if they stay behind in the temporary folder, no harm is done.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A folder that nobody else may look into, with a name that nobody could have taken before.
fn private_folder() -> io::Result<PathBuf> {
    let mut random = [0_u8; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("the system has no randomness"))?;
    let folder = std::env::temp_dir().join(format!("fedmux-demo-{:016x}", u64::from_ne_bytes(random)));
    std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| at(&folder, &error))?;
    Ok(folder)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{}: {error}; set TMPDIR to a folder that can be written", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_private_and_gone_afterwards() {
        let [a, b] = ["a1.test", "b1.test"].map(|name| vec![Domain::parse(name).unwrap()]);
        let certificates = Certificates::make([&a, &b], false).unwrap();
        let folder = certificates.folder.clone();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        for identity in [certificates.identity(&a), certificates.identity(&b)] {
            assert!(identity.certificates.read_dir().unwrap().count() == 1);
            assert_eq!(identity.trust, Trust::File(folder.join("ca.pem")));
        }
        drop(certificates);
        assert!(!folder.exists());
    }
}
