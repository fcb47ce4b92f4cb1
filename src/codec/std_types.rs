//! `Encode` and `Decode` for the types of std.
