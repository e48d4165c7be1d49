// What the wrappers use of Metal, so that they can be type-checked and run where Metal is absent.

public struct MTLSize {
    public var width: Int
    public var height: Int
    public var depth: Int
    public init(width: Int, height: Int, depth: Int) {
        (self.width, self.height, self.depth) = (width, height, depth)
    }
}

public protocol MTLBuffer { var length: Int { get } }
public protocol MTLFunction {}
public protocol MTLComputePipelineState {}

public protocol MTLDevice {
    func makeComputePipelineState(function: MTLFunction) throws -> MTLComputePipelineState
}

public protocol MTLLibrary {
    var device: MTLDevice { get }
    func makeFunction(name functionName: String) -> MTLFunction?
}

public protocol MTLComputeCommandEncoder {
    func setComputePipelineState(_ state: MTLComputePipelineState)
    func setBuffer(_ buffer: MTLBuffer?, offset: Int, index: Int)
    func setBytes(_ bytes: UnsafeRawPointer, length: Int, index: Int)
    func dispatchThreadgroups(_ threadgroupsPerGrid: MTLSize, threadsPerThreadgroup: MTLSize)
}
