use super::conflicts;
use crate::format::{ExternalFiles, lift, text};
use crate::ir::Model;

fn model(text: &str) -> Model {
    let text = format!("<ir_version: 8, opset_import: [\"\" : 17]> {text}");
    lift(text::parse_model(&text).unwrap(), &ExternalFiles::default()).unwrap()
}

fn found(text: &str) -> Vec<String> {
    conflicts(&model(text)).iter().map(ToString::to_string).collect()
}

#[test]
fn contradictory_shapes_are_named_by_node_and_shapes() {
    let cases = [
        (
            "g (float[1,16,30,30] a, float[1,16,32,32] b) => (float[x,y,z,w] y) { y = Add(a, b) }",
            "y (Add): [1, 16, 30, 30] and [1, 16, 32, 32] do not broadcast: axis 2 is 30 and 32",
        ),
        (
            "g (float[N,3] a, float[N,4] b) => (float[N,z] y) { y = Mul(a, b) }",
            "y (Mul): [N, 3] and [N, 4] do not broadcast: axis 1 is 3 and 4",
        ),
        (
            "g (float[2,3] a, float[2,4] b) => (float[x,y] y) { y = Concat<axis = 0>(a, b) }",
            "y (Concat): [2, 3] and [2, 4] do not join along axis 0",
        ),
        (
            "g (float[N,3,4] a) => (float[x,y] y) <int64[2] s = {0, 13}> { y = Reshape(a, s) }",
            "y (Reshape): [N, 3, 4] does not reshape to [0, 13]: 12 elements do not fill 13",
        ),
        (
            "g (float[2,5] a) => (float[x,y] y) <int64[2] s = {4, -1}> { y = Reshape(a, s) }",
            "y (Reshape): [2, 5] does not reshape to [4, -1]: 10 elements do not fill 4",
        ),
        (
            "g (float[4,N,2] x, float[1,24,2] w, float[1,24,8] r) => (y) { y, h = GRU<hidden_size = 9>(x, w, r) }",
            "y (GRU): hidden_size 9 and the recurrent weights [1, 24, 8] do not fit",
        ),
        (
            "g (float[N,3] a, float[4,5] b) => (float[N,5] y) { y = MatMul(a, b) }",
            "y (MatMul): [N, 3] and [4, 5] have no product: the inner sizes are 3 and 4",
        ),
        (
            "g (float[N,3] a, float[5,4] b) => (float[N,5] y) { y = Gemm<transB = 1>(a, b) }",
            "y (Gemm): [N, 3] and [5, 4] have no product: the inner sizes are 3 and 4",
        ),
        (
            "g (float[N,3,8,8] a, float[6,4,3,3] w) => (float[N,6,x,y] y) { y = Conv(a, w) }",
            "y (Conv): input [N, 3, 8, 8] and weights [6, 4, 3, 3] do not fit: 3 channels, the weights take 1 x 4",
        ),
        (
            "g (float[N,3,2,2] a) => (float[N,3,x,y] y) { y = MaxPool<kernel_shape = [3, 3]>(a) }",
            "y (MaxPool): the kernel spans 3 along axis 2 of [N, 3, 2, 2], which has 2 with its padding",
        ),
        (
            "g (float[4,3] a) => (float[1,3] y) <int64[1] i = {4}> { y = Gather(a, i) }",
            "y (Gather): index 4 is out of range along axis 0 of [4, 3]",
        ),
        (
            "g (float[4,3] a) => (float[4,3] y) { y = Softmax<axis = 2>(a) }",
            "y (Softmax): axis 2 is out of range for a tensor of rank 2",
        ),
        (
            "g (float[4,3] a) => (float[3,4] y) { y = Transpose<perm = [0, 0]>(a) }",
            "y (Transpose): [0, 0] is no permutation of the axes of [4, 3]",
        ),
        (
            "g (float[4,3] a, float[4] s) => (float[4,3] y) { y = LayerNormalization(a, s) }",
            "y (LayerNormalization): [4] does not broadcast to [4, 3]",
        ),
        (
            "g (float[4,3] a) => (float[4,3] y) { y = LayerNormalization<axis = -3>(a, a) }",
            "y (LayerNormalization): axis -3 is out of range for a tensor of rank 2",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(found(text), [wanted], "{text}");
    }
}

#[test]
fn what_a_run_may_repair_is_no_conflict() {
    for text in [
        // Sizes that are not known, 1, or 0, which exporters write for unknown.
        "g (float[N,3] a, float[M,3] b) => (float[K,3] y) { y = Add(a, b) }",
        "g (float[1,3] a, float[4,1] b) => (float[4,3] y) { y = Add(a, b) }",
        "g (float[0,3] a, float[4,3] b) => (float[4,3] y) { y = Add(a, b) }",
        "g (float[0] a, float[2,4] b) => (float[x,y] y) { y = Concat<axis = 0>(a, b) }",
        "g () => (float[x,y,z] y) <int64[2] e = {0, 36}, int64[3] s = {0, 4, 36}> { a = ConstantOfShape(e) y = Reshape(a, s) }",
        "g (float[4,N,2] x, float[1,24,2] w, float[1,24,8] r) => (y) { y, h = GRU<hidden_size = 8>(x, w, r) }",
        // A node that no output needs.
        "g (float[3] a, float[4] b) => (float[3] y) { y = Relu(a) dead = Add(a, b) }",
        // A branch that may never run.
        "g (bool c, float[3] a, float[4] b) => (float[x] y) { y = If(c) <then_branch = t () => (float[x] u) { u = Add(a, b) }, \
         else_branch = e () => (float[x] v) { v = Identity(a) }> }",
        // A declaration of an inner value that nothing confirms.
        "g (float[3] a, int64[1] n) => (float[x] y) <float[4] m> { m = Expand(a, n) y = Add(a, m) }",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
}

#[test]
fn branches_that_are_sure_to_run_and_functions_are_looked_into() {
    let branch = |condition: &str| {
        format!(
            "g (float[3] a, float[4] b) => (float[x] y) <bool c = {{{condition}}}> {{ y = If(c) \
             <then_branch = t () => (float[x] u) {{ u = Add(a, b) }}, else_branch = e () => (float[x] v) {{ v = Identity(a) }}> }}"
        )
    };
    assert_eq!(found(&branch("1")).len(), 1);
    assert_eq!(found(&branch("0")).len(), 0);
    let text = "<ir_version: 8, opset_import: [\"\" : 17, \"own\" : 1]> g (float[3] a, float[4] b) => (float[x] y) \
                { y = own.join(a, b) } <domain: \"own\", opset_import: [\"\" : 17]> join (p, q) => (r) { r = Add(p, q) }";
    let model = lift(text::parse_model(text).unwrap(), &ExternalFiles::default()).unwrap();
    assert_eq!(conflicts(&model).len(), 1);
}

#[test]
fn attributes_out_of_range_are_named_by_node_and_attribute() {
    let cases = [
        (
            "g (float[1,3,8,8] a) => (float[1,3,x,y] y) { y = MaxPool<kernel_shape = [9223372036854775807, 2]>(a) }",
            "y (MaxPool): kernel_shape 9223372036854775807 is out of range: it goes from 1 to 2147483647",
        ),
        (
            "g (float[1,3,8,8] a, float[3,3,1,1] w) => (float[1,3,x,y] y) { y = Conv<strides = [1, 0]>(a, w) }",
            "y (Conv): strides 0 is out of range: it goes from 1 to 2147483647",
        ),
        (
            "g (float[1,3,8,8] a, float[3,3,1,1] w) => (float[1,3,x,y] y) { y = Conv<dilations = [-1, 1]>(a, w) }",
            "y (Conv): dilations -1 is out of range: it goes from 1 to 2147483647",
        ),
        (
            "g (float[1,3,8,8] a) => (float[1,3,x,y] y) \
             { y = AveragePool<kernel_shape = [2, 2], pads = [0, 0, 9223372036854775807, 0]>(a) }",
            "y (AveragePool): pads 9223372036854775807 is out of range: it goes from -2147483647 to 2147483647",
        ),
        (
            "g (float[1,3,8,8] a, float[3,3,1,1] w) => (float[1,3,x,y] y) { y = ConvTranspose<group = 0>(a, w) }",
            "y (ConvTranspose): group 0 is out of range: it goes from 1 to 2147483647",
        ),
        (
            "g (float[2,3] a) => (float[x] y) { y = ReduceL2<axes = [2]>(a) }",
            "y (ReduceL2): axis 2 is out of range for a tensor of rank 2",
        ),
        (
            "g (int64[2] a, int64 d, float[2] v) => (float[x,y] y) { y = OneHot<axis = 2>(a, d, v) }",
            "y (OneHot): axis 2 is out of range for a tensor of rank 1",
        ),
        (
            "g (float[4,3] a, float[3] s) => (uint8[4,3] y) { y = QuantizeLinear<axis = 2>(a, s) }",
            "y (QuantizeLinear): axis 2 is out of range for a tensor of rank 2",
        ),
        (
            "g (float[1,3,8,8] a) => (float[a,b,c,d] y) { y = DepthToSpace<blocksize = 0>(a) }",
            "y (DepthToSpace): blocksize 0 is out of range: it goes from 1 to 2147483647",
        ),
        (
            "g (float[2] s, float[4,2] x) => (float[2] t, float[4,2] y) { t, y = Scan<num_scan_inputs = 9, body = b \
             (float[2] u, float[2] v) => (float[2] w, float[2] z) { w = Add(u, v) z = Identity(w) }>(s, x) }",
            "t (Scan): num_scan_inputs 9 is out of range: it goes from 1 to 2",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(found(text), [wanted], "{text}");
    }
}

#[test]
fn attributes_at_the_ends_of_their_ranges_are_no_conflict() {
    for text in [
        "g (float[4,3] a) => (float[12,1] y) { y = Flatten<axis = 2>(a) }",
        "g (int64[2] a, int64 d, float[2] v) => (float[x,y] y) { y = OneHot<axis = -2>(a, d, v) }",
        // One scale for the whole tensor: the axis means nothing.
        "g (float[4] a, float s) => (uint8[4] y) { y = QuantizeLinear<axis = 1>(a, s) }",
        "g (float[1,3,8,8] a) => (float[1,3,x,y] y) { y = MaxPool<kernel_shape = [2, 2], strides = [2147483647, 1]>(a) }",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
    // Forms of older opsets: axes in an attribute, and an axis that splits all axes in two.
    for text in [
        "g (float[4,3] a) => (float[4,3,1] y) { y = Unsqueeze<axes = [2]>(a) }",
        "g (float[4,3] a) => (float[4,3] y) { y = Softmax<axis = 2>(a) }",
    ] {
        let text = format!("<ir_version: 8, opset_import: [\"\" : 11]> {text}");
        let model = lift(text::parse_model(&text).unwrap(), &ExternalFiles::default()).unwrap();
        assert_eq!(conflicts(&model), [], "{text}");
    }
}
