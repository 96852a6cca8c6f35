//! Arrays that a program hands over: from `ndarray`, or as a shape and elements.

use bytes::Bytes;
use ndarray::{ArrayBase, Data as Storage, Dimension};

use super::error::Error;
use crate::ir::{self, DType, Tensor};

/// An array of numbers or truth values in row-major order, ready to be samples.
///
/// # Examples
///
/// ```
/// use secateur::{Array, IntoArray};
/// let a = Array::new([2, 3], vec![1.0_f32; 6])?;
/// let b = ndarray::Array2::<f32>::ones((2, 3)).into_array()?;
/// assert_eq!(a.shape(), b.shape());
/// assert_eq!(Array::new([2, 3], vec![0_i64; 5]).unwrap_err().code(), "data-array");
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Array(pub(crate) Tensor);

/// A Rust type that is an element of an [`Array`]: `f32`, `f64`, integers of 8 to 64 bits, and `bool`.
pub trait Element: sealed::Sealed {}

mod sealed {
    use crate::ir::Tensor;

    /// Makes tensors of a type; nobody else can.
    pub trait Sealed: Sized {
        /// A tensor of these dimensions.
        fn tensor(dims: &[u64], values: &[Self]) -> Result<Tensor, crate::ir::TensorError>;
    }
}

impl<T: ir::Element> sealed::Sealed for T {
    fn tensor(dims: &[u64], values: &[Self]) -> Result<Tensor, ir::TensorError> {
        Tensor::from_slice(dims, values)
    }
}

impl<T: ir::Element> Element for T {}

impl sealed::Sealed for bool {
    fn tensor(dims: &[u64], values: &[Self]) -> Result<Tensor, ir::TensorError> {
        Tensor::from_bools(dims, values)
    }
}

impl Element for bool {}

impl Array {
    /// An array of this shape, its elements in row-major order.
    ///
    /// # Errors
    ///
    /// `data-array` where there are more or fewer elements than the shape says.
    ///
    /// # Examples
    ///
    /// ```
    /// let labels = secateur::Array::new([3], vec![7_i64, 1, 4])?;
    /// assert_eq!(labels.shape(), [3]);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn new<T: Element>(shape: impl AsRef<[usize]>, elements: impl AsRef<[T]>) -> Result<Self, Error> {
        let dims: Vec<u64> = shape.as_ref().iter().map(|size| *size as u64).collect();
        T::tensor(&dims, elements.as_ref())
            .map(Self)
            .map_err(|error| Error::new("data-array", error.to_string()))
    }

    /// An array of elements as they lie in memory: row-major, little-endian. `element` is ONNX's name of their type (`float`,
    /// `int64`, `bfloat16`, ...). Nothing is copied.
    ///
    /// # Errors
    ///
    /// `data-array` for what is no element type, or where the bytes are more or fewer than the shape says.
    ///
    /// # Examples
    ///
    /// ```
    /// let halves = secateur::Array::from_bytes("float16", [2], vec![0_u8, 60, 0, 64])?;
    /// assert_eq!((halves.element(), halves.shape()), ("float16", &[2_u64][..]));
    /// assert_eq!(secateur::Array::from_bytes("float", [2], vec![0_u8; 4]).unwrap_err().code(), "data-array");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn from_bytes(
        element: &str,
        shape: impl AsRef<[usize]>,
        bytes: impl Into<Bytes>,
    ) -> Result<Self, Error> {
        let unknown = || Error::new("data-array", format!("{element:?} is not an element type"));
        let dtype = DType::from_name(element).ok_or_else(unknown)?;
        let dims = shape.as_ref().iter().map(|size| *size as u64);
        Tensor::from_raw(dtype, dims, bytes)
            .map(Self)
            .map_err(|error| Error::new("data-array", error.to_string()))
    }

    /// ONNX's name of the type of its elements.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::Array::new([2], vec![1_i64, 2])?.element(), "int64");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn element(&self) -> &'static str {
        self.0.dtype().name()
    }

    /// Its elements as they lie in memory: row-major, little-endian, two of 4 bits in a byte; not copied where the file has them so.
    ///
    /// # Errors
    ///
    /// `data-type` for strings.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::Array::new([2], vec![1_u16, 258])?.to_bytes()?[..], [1, 0, 2, 1]);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        self.0
            .raw_bytes()
            .map_err(|error| Error::new("data-type", error.to_string()))
    }

    /// The sizes of its axes.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::Array::new([1, 2], [true, false])?.shape(), [1, 2]);
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn shape(&self) -> &[u64] {
        self.0.dims()
    }
}

/// What is an [`Array`] or becomes one: `ndarray`'s arrays and views of any number of axes, and a shape with its elements.
///
/// # Examples
///
/// ```
/// use secateur::IntoArray;
/// assert_eq!(([2], vec![1_u8, 2]).into_array()?.shape(), [2]);
/// assert_eq!(ndarray::arr2(&[[1.0_f32, 2.0]]).view().into_array()?.shape(), [1, 2]);
/// # Ok::<(), secateur::Error>(())
/// ```
pub trait IntoArray {
    /// The array.
    ///
    /// # Errors
    ///
    /// `data-array` where shape and elements do not fit.
    fn into_array(self) -> Result<Array, Error>;
}

impl IntoArray for Array {
    fn into_array(self) -> Result<Array, Error> {
        Ok(self)
    }
}

impl<S: AsRef<[usize]>, T: Element> IntoArray for (S, Vec<T>) {
    fn into_array(self) -> Result<Array, Error> {
        Array::new(self.0, self.1)
    }
}

impl<T: Element + Clone, S: Storage<Elem = T>, D: Dimension> IntoArray for ArrayBase<S, D> {
    fn into_array(self) -> Result<Array, Error> {
        match self.as_slice() {
            Some(elements) => Array::new(self.shape(), elements),
            None => Array::new(self.shape(), self.iter().cloned().collect::<Vec<T>>()),
        }
    }
}

/// Named arrays that belong together: the inputs of some samples, and their labels.
///
/// Anything that gives names with arrays: a vector, an array, a map of them; and a `Result` of that, for iterators that may fail.
///
/// # Examples
///
/// ```
/// use secateur::IntoSamples;
/// let two = [("x", ([2, 1], vec![0.5_f32, 1.5]))];
/// assert_eq!(two.into_samples()?.len(), 1);
/// let failed: Result<[(&str, secateur::Array); 1], _> = Err("the camera is off");
/// assert_eq!(failed.into_samples().unwrap_err().code(), "data-read");
/// # Ok::<(), secateur::Error>(())
/// ```
pub trait IntoSamples {
    /// The arrays, each with its samples along axis 0.
    ///
    /// # Errors
    ///
    /// An array that is none, or what the source says is wrong.
    fn into_samples(self) -> Result<Vec<(String, Array)>, Error>;
}

fn named<N: Into<String>, A: IntoArray>(
    arrays: impl IntoIterator<Item = (N, A)>,
) -> Result<Vec<(String, Array)>, Error> {
    let one = |(name, array): (N, A)| Ok((name.into(), array.into_array()?));
    arrays.into_iter().map(one).collect()
}

impl<N: Into<String>, A: IntoArray> IntoSamples for Vec<(N, A)> {
    fn into_samples(self) -> Result<Vec<(String, Array)>, Error> {
        named(self)
    }
}

impl<N: Into<String>, A: IntoArray, const COUNT: usize> IntoSamples for [(N, A); COUNT] {
    fn into_samples(self) -> Result<Vec<(String, Array)>, Error> {
        named(self)
    }
}

impl<N: Into<String>, A: IntoArray> IntoSamples for std::collections::BTreeMap<N, A> {
    fn into_samples(self) -> Result<Vec<(String, Array)>, Error> {
        named(self)
    }
}

impl<N: Into<String>, A: IntoArray, H> IntoSamples for std::collections::HashMap<N, A, H> {
    fn into_samples(self) -> Result<Vec<(String, Array)>, Error> {
        named(self)
    }
}

impl<S: IntoSamples, E: std::fmt::Display> IntoSamples for Result<S, E> {
    fn into_samples(self) -> Result<Vec<(String, Array)>, Error> {
        self.map_err(|error| Error::new("data-read", error.to_string()))?
            .into_samples()
    }
}
