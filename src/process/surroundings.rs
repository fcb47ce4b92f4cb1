//! What a child finds around itself, apart from its arguments.

use super::method;
use crate::{Decode, Decoder, Encode, Encoder, Result};
use std::path::PathBuf;

/// What a child is given by its parent, and puts on when it begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The start method that the parent chose for its program.
    method: u8,
    /// The working directory, where it is not the one that the child is born with.
    pub(crate) directory: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn here() -> Surroundings {
        Surroundings { method: method::chosen(), ..Surroundings::default() }
    }

    /// Puts them on.
    ///
    /// # Errors
    /// * [`Error::Os`](crate::Error::Os): the system refuses one of them.
    pub(crate) fn apply(self) -> Result<()> {
        method::inherit(self.method);
        if let Some(directory) = &self.directory {
            std::env::set_current_dir(directory).map_err(crate::Error::os("chdir"))?;
        }
        Ok(())
    }
}

impl Encode for Surroundings {
    fn encode(&self, encoder: &mut Encoder<'_>) {
        self.method.encode(encoder);
        self.directory.encode(encoder);
    }
}

impl Decode for Surroundings {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Surroundings> {
        let method = u8::decode(decoder)?;
        Ok(Surroundings { method, directory: Decode::decode(decoder)? })
    }
}
