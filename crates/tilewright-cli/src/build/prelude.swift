// Attention kernels in Metal, made by `tile build`. The sources are the `.metal` files beside this one: compile them into one
// Metal library, make a pipeline of each kernel that is used, and encode its launches.
//
//     let pipeline = try SomeKernel.pipeline(in: library)
//     try SomeKernel(q: q, …).encode(pipeline, into: encoder)
//
// Everything is checked before it is encoded; a launch cannot read or write outside of the tensors that it is given.

import Metal

/// An element type of tensors.
public protocol Element {
    /// Bytes of one element.
    static var bytes: Int { get }
}

/// IEEE 754 binary32.
public enum F32: Element { public static let bytes = 4 }
/// IEEE 754 binary16.
public enum F16: Element { public static let bytes = 2 }
/// The upper half of a binary32.
public enum BF16: Element { public static let bytes = 2 }
/// A signed integer of 32 bits.
public enum I32: Element { public static let bytes = 4 }
/// An unsigned integer of 32 bits.
public enum U32: Element { public static let bytes = 4 }
/// A signed integer of 8 bits.
public enum I8: Element { public static let bytes = 1 }
/// An unsigned integer of 8 bits.
public enum U8: Element { public static let bytes = 1 }
/// One byte: zero is false, anything else true.
public enum Bool8: Element { public static let bytes = 1 }

/// A tensor in a Metal buffer.
public struct Tensor<E: Element> {
    /// Where it lies.
    public let buffer: MTLBuffer
    /// Bytes before the element at index 0 of all axes.
    public let offset: Int
    /// Extents, outermost first.
    public let shape: [Int]
    /// Elements from one index to the next, for each axis; 0 repeats the same elements.
    public let strides: [Int]

    /// A tensor; without strides its elements lie one after the other, the last axis innermost.
    public init(_ buffer: MTLBuffer, offset: Int = 0, shape: [Int], strides: [Int]? = nil) {
        self.buffer = buffer
        self.offset = offset
        self.shape = shape
        var dense: [Int] = []
        var next = 1
        for extent in shape.reversed() {
            dense.insert(next, at: 0)
            next = next.multipliedReportingOverflow(by: max(extent, 1)).partialValue
        }
        self.strides = strides ?? dense
    }
}

/// Why a launch was not encoded.
public enum TilewrightError: Error {
    /// A tensor with another number of axes.
    case rank(tensor: String, got: Int, wanted: Int)
    /// A tensor with another extent along an axis.
    case extent(tensor: String, axis: Int, got: Int, wanted: Int)
    /// An extent that is not a multiple of what the kernel needs.
    case multiple(what: String, got: Int, of: Int)
    /// Rows that are not contiguous, or do not start at multiples of 16 bytes.
    case alignment(tensor: String)
    /// A tensor that reaches outside of its buffer, or that has a negative extent, stride or offset.
    case bounds(tensor: String)
    /// A number of threadgroups that cannot be launched.
    case grid(got: Int)
    /// The Metal library has no kernel of this name.
    case function(String)
}

/// One launch of a kernel.
public protocol TilewrightKernel {
    /// The name of its function.
    static var entry: String { get }
    /// The file with its source.
    static var source: String { get }
    /// Threads of a threadgroup.
    static var threads: Int { get }
    /// Bytes of the struct of arguments; its buffer index is that after the tensors'.
    static var argumentBytes: Int { get }
    /// The buffers of the tensors, by index, and the byte offsets of their first elements.
    var buffers: [(MTLBuffer, Int)] { get }
    /// Holds the tensors against what the kernel takes.
    func check() throws
    /// Threadgroups along each axis.
    func grid() throws -> MTLSize
    /// The struct of arguments.
    func arguments() throws -> [UInt8]
}

extension TilewrightKernel {
    /// The kernel of a library that was compiled from its source.
    public static func pipeline(in library: MTLLibrary) throws -> MTLComputePipelineState {
        guard let function = library.makeFunction(name: entry) else { throw TilewrightError.function(entry) }
        return try library.device.makeComputePipelineState(function: function)
    }

    /// Encodes the launch. The tensors' buffers must live until it has run.
    public func encode(_ pipeline: MTLComputePipelineState, into encoder: MTLComputeCommandEncoder) throws {
        let groups = try grid()
        let bytes = try arguments()
        if groups.width == 0 || groups.height == 0 || groups.depth == 0 { return }
        encoder.setComputePipelineState(pipeline)
        for (index, (buffer, offset)) in buffers.enumerated() {
            encoder.setBuffer(buffer, offset: offset, index: index)
        }
        encoder.setBytes(bytes, length: bytes.count, index: buffers.count)
        let threads = MTLSize(width: Self.threads, height: 1, depth: 1)
        encoder.dispatchThreadgroups(groups, threadsPerThreadgroup: threads)
    }
}

/// Holds the axes of a tensor against the kernel's, and the elements against the buffer.
func checkTensor<E: Element>(_ tensor: Tensor<E>, _ name: String, rank: Int, aligned: Bool) throws {
    for got in [tensor.shape.count, tensor.strides.count] where got != rank {
        throw TilewrightError.rank(tensor: name, got: got, wanted: rank)
    }
    guard tensor.offset >= 0, tensor.offset % E.bytes == 0 else { throw TilewrightError.bounds(tensor: name) }
    var last = 0  // of the elements
    for (extent, stride) in zip(tensor.shape, tensor.strides) {
        guard extent >= 0, extent <= Int(Int32.max), stride >= 0 else { throw TilewrightError.bounds(tensor: name) }
        let (reach, tooFar) = max(extent - 1, 0).multipliedReportingOverflow(by: stride)
        let (sum, tooMuch) = last.addingReportingOverflow(reach)
        guard !tooFar, !tooMuch else { throw TilewrightError.bounds(tensor: name) }
        last = sum
    }
    let room = (tensor.buffer.length - tensor.offset) / E.bytes
    guard tensor.shape.contains(0) || last < room else { throw TilewrightError.bounds(tensor: name) }
    if aligned, rank > 0 {
        let whole = tensor.strides.dropLast().allSatisfy { $0 % (16 / E.bytes) == 0 }
        guard whole, tensor.strides[rank - 1] == 1, tensor.offset % 16 == 0 else {
            throw TilewrightError.alignment(tensor: name)
        }
    }
}

/// Holds the extents of a tensor against those that the others give.
func checkShape<E: Element>(_ tensor: Tensor<E>, _ name: String, is wanted: [Int]) throws {
    for (axis, (got, wanted)) in zip(tensor.shape, wanted).enumerated() where got != wanted {
        throw TilewrightError.extent(tensor: name, axis: axis, got: got, wanted: wanted)
    }
}

/// Throws where `got` is not a multiple of `factor`.
func checkMultiple(_ what: String, _ got: Int, of factor: Int) throws {
    guard factor == 0 ? got == 0 : got % factor == 0 else {
        throw TilewrightError.multiple(what: what, got: got, of: factor)
    }
}

/// Threadgroups along each axis.
func size(_ x: Int, _ y: Int, _ z: Int) throws -> MTLSize {
    for got in [x, y, z] where UInt32(exactly: got) == nil { throw TilewrightError.grid(got: got) }
    return MTLSize(width: x, height: y, depth: z)
}

/// The quotient, rounded up.
func ceilDiv(_ a: Int, _ b: Int) -> Int { a / b + (a % b > 0 ? 1 : 0) }

/// The struct of arguments while it is filled.
struct ArgumentBytes {
    var bytes: [UInt8]

    init(count: Int) { bytes = [UInt8](repeating: 0, count: count) }

    /// Writes a number at its byte offset.
    mutating func store<T>(_ value: T, at offset: Int) {
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: offset, as: T.self) }
    }

    /// Writes the strides of a tensor as 64-bit numbers and its extents as 32-bit ones; `checkTensor` has seen them.
    mutating func store<E: Element>(_ tensor: Tensor<E>, strides: Int, lens: Int) {
        for (axis, stride) in tensor.strides.enumerated() { store(Int64(stride), at: strides + 8 * axis) }
        for (axis, extent) in tensor.shape.enumerated() { store(Int32(extent), at: lens + 4 * axis) }
    }
}
