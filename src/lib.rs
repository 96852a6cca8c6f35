//! secateur
