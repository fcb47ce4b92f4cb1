use std::path::PathBuf;
crate::message! {
    /// Interim.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub enum Address {
        /// Unix
        Unix(PathBuf),
        /// Abstract
        Abstract(Vec<u8>),
        /// Tcp
        Tcp {
            /// Host
            host: String,
            /// Port
            port: u16,
        },
    }
}
