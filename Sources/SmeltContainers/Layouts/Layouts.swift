// Published layouts: how several tensors of a checkpoint (codes here, scales there) make one weight. Decided by the
// tensors' names and dtypes and by quantization_config, never by guessing from sizes. A new layout is a file in this
// folder and a line in `Layouts.all`.

internal import SmeltStorage
public import SmeltTensors

extension Spelling {
  /// The module's name: the tensor's without `.weight`.
  var module: String { tensor.hasSuffix(".weight") ? String(tensor.dropLast(".weight".count)) : tensor }
}

/// What a family asks of a checkpoint.
public struct WeightRequest: Sendable {
  /// Where the weight lies.
  public let place: Spelling
  /// The dimensions its numbers must have, output channels first.
  public let shape: Shape
  /// Whether integers are expected rather than numbers to multiply by.
  public let isTable: Bool
  /// Whether elements of any type are taken as they are: nobody computes with them here.
  public let takesAnyType: Bool

  /// A request.
  public init(_ place: Spelling, shape: Shape, isTable: Bool = false, takesAnyType: Bool = false) {
    self.place = place
    self.shape = shape
    self.isTable = isTable
    self.takesAnyType = takesAnyType
  }
}

/// One way to publish weights.
public protocol Layout: Sendable {
  /// What Formats/layouts.md calls it.
  var name: String { get }

  /// The tensor with the codes of a weight that is kept this way, or nil when it is not. Looks at names, dtypes and
  /// configuration, never at sizes or data.
  func codes(of place: Spelling, in source: any TensorSource, _ config: QuantizationConfig) -> TensorInfo?

  /// The weight whose codes `codes(of:in:_:)` found. Checks names, dtypes and dimensions of all its tensors and reads
  /// none of their data.
  /// - Throws: `CFG_SHAPE`, `Q_SCALE_MISSING`, `Q_SCALE_SHAPE`, `Q_PACK`, `Q_CONFIG` with the tensor, found and
  ///   expected; `RequestError` unsupported for well-formed variants that are not read.
  func join(_ context: JoinContext) throws -> JoinedWeight

  /// The dimensions of the numbers behind some codes, where no family says them: of a stack, those of one of its matrices.
  /// - Returns: nil where neither headers nor a tensor of dimensions tell.
  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape?
}

extension Layout {
  /// A code for each number, in its place.
  public func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    codes.shape
  }
}

extension Shape {
  /// The same with so many times the columns: several codes share an element.
  func widened(_ factor: Int) -> Shape { Shape(dimensions.dropLast() + [columns * factor]) }
}

/// The layouts, and joining by the first that fits.
public enum Layouts {
  /// All of them. Those that are told by a name of their own come first, plain tensors last.
  public static let all: [any Layout] = [
    MXFP4Blocks(), CompressedTensors(), ModelOpt(), GPTQ(), AWQ(), ScaledFP8(), ScaledINT8(), PackedFP4(),
    PlainTensors(),
  ]

  /// The layout of a weight and the tensor with its codes, or nil when no tensor of the weight is there.
  public static func find(_ place: Spelling, in source: any TensorSource, _ config: QuantizationConfig)
    -> (
      layout: any Layout, codes: TensorInfo
    )?
  {
    for layout in all {
      if let codes = layout.codes(of: place, in: source, config) { return (layout, codes) }
    }
    return nil
  }

  /// The weight a family asks for, from headers alone; nil when no tensor of it is there.
  /// - Throws: what the layout's `join` throws.
  public static func join(
    _ request: WeightRequest, in source: any TensorSource, _ config: QuantizationConfig
  ) throws -> JoinedWeight? {
    guard let (layout, codes) = find(request.place, in: source, config) else { return nil }
    let context = JoinContext(
      layout: layout.name, codes: codes, request: request, source: source, config: config)
    // A quantized layout's codes may be integers; a table and numbers to multiply by are never.
    let isTable = layout is PlainTensors && [.i64, .i32].contains(codes.dtype)
    guard request.isTable == isTable || request.takesAnyType else {
      throw context.refuse(
        .configShape, "is \(codes.dtype), expected \(request.isTable ? "I64 or I32" : "numbers")")
    }
    return try layout.join(context)
  }

  /// The rule that leaves out scales of activations and of the key-value cache.
  public static let activationScale = (
    name: "activation-scale",
    reason:
      "Scales and zero points that a runtime applies to activations or cached keys and values, not to weights."
  )

  /// Whether a tensor of a quantized checkpoint falls under `activationScale`.
  public static func isActivationScale(_ tensor: TensorInfo, _ config: QuantizationConfig) -> Bool {
    guard config.method != nil, let dot = tensor.name.lastIndex(of: ".") else { return false }
    return activationScales.contains(String(tensor.name[tensor.name.index(after: dot)...]))
  }

  private static let activationScales: Set<String> = [
    "input_scale", "input_zero_point", "input_global_scale", "activation_scale", "output_scale",
    "output_zero_point", "q_scale", "k_scale", "v_scale", "k_zero_point", "v_zero_point", "kv_scale",
    "k_global_scale", "v_global_scale", "q_zero_point",
  ]
}
