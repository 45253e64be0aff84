// Tensors that no family asks for, as weights: codes with their scales where a layout knows them, everything else as it is stored.

internal import SmeltStorage
package import SmeltTensors

/// A weight found among tensors by the layouts alone.
package struct FoundWeight: Sendable {
  /// The tensor's name as plain checkpoints have it, `X.weight`, whatever its layout calls the codes.
  package let name: String
  /// The matrix of a stack, where the layout stacks them.
  package let stackIndex: Int?
  /// Where it lies.
  package let place: Spelling
  /// The weight.
  package let joined: JoinedWeight
}

extension Layouts {
  /// Some tensors that are not `used`, as weights in the order of the source: each byte of them belongs to exactly one.
  /// - Parameter tensors: all of the source by default, in its order; the scales of codes among them, too.
  /// - Throws: what `join` throws: scales that do not fit, a configuration that the tensors contradict; `RequestError` unsupported.
  package static func everything(
    of tensors: [TensorInfo]? = nil, in source: any TensorSource, except used: TensorSet,
    _ config: QuantizationConfig
  ) throws -> [FoundWeight] {
    let tensors = tensors ?? source.tensors
    var claimed = used
    var found: [(order: Int, weight: FoundWeight)] = []
    for (order, tensor) in tensors.enumerated() where !used.contains(tensor) {
      guard let place = quantizedPlace(of: tensor, in: source, config) else { continue }
      for weight in try quantized(tensor, place.name, place.layout, in: source, config) {
        weight.joined.forEachTensor(in: source) { claimed.insert($0) }
        found.append((order, weight))
      }
    }
    for (order, tensor) in tensors.enumerated() where !claimed.contains(tensor) {
      let place = Spelling(tensor.name)
      let request = WeightRequest(place, shape: tensor.shape, takesAnyType: true)
      let context = JoinContext(
        layout: "plain", codes: tensor, request: request, source: source, config: config)
      found.append(
        (
          order,
          FoundWeight(
            name: tensor.name, stackIndex: nil, place: place, joined: try PlainTensors().join(context))
        ))
    }
    return found.sorted { $0.order < $1.order }.map(\.weight)
  }

  /// The plain name and the layout of a weight whose codes a tensor holds; nil for plain tensors and for scales.
  private static func quantizedPlace(
    of tensor: TensorInfo, in source: any TensorSource, _ config: QuantizationConfig
  ) -> (name: String, layout: any Layout)? {
    var name = tensor.name
    for (ending, plain) in [("_blocks", ""), (".weight_packed", ".weight"), (".qweight", ".weight")]
    where name.hasSuffix(ending) {
      name = name.dropLast(ending.count) + plain
    }
    if name == tensor.name {
      guard [.i8, .u8, .f4, .f8E4M3, .f8E5M2].contains(tensor.dtype) else { return nil }
      let module = Spelling(name).module
      let scales = ["\(module).scale", "\(name)_scale_inv", "\(name)_scale", "\(module).weight_scale"]
      guard scales.contains(where: { source.tensor($0) != nil }) else { return nil }
    }
    guard let found = find(Spelling(name), in: source, config), found.codes.name == tensor.name,
      !(found.layout is PlainTensors)
    else { return nil }
    return (name, found.layout)
  }

  /// The weights whose codes a tensor holds: one, or each matrix of a stack.
  private static func quantized(
    _ codes: TensorInfo, _ name: String, _ layout: any Layout, in source: any TensorSource,
    _ config: QuantizationConfig
  ) throws -> [FoundWeight] {
    let module = Spelling(name).module
    guard let shape = layout.shape(of: codes, module: module, in: source) else {
      throw FormatError(
        .quantConfig, file: codes.fileName, subject: codes.name, offset: codes.offset,
        "is \(codes.dtype) \(codes.shape), and no tensor beside it says the dimensions of its numbers")
    }
    // Blocks of FP4 are the one layout that stacks what the others keep apart.
    let count = layout is MXFP4Blocks && codes.shape.rank == 4 ? codes.shape.dimensions[0] : nil
    let places =
      count.map { (0..<$0).map { Spelling(name, stackIndex: $0, transposed: true) } } ?? [Spelling(name)]
    return try places.map { place in
      let context = JoinContext(
        layout: layout.name, codes: codes, request: WeightRequest(place, shape: shape), source: source,
        config: config)
      return FoundWeight(
        name: name, stackIndex: place.stackIndex, place: place, joined: try layout.join(context))
    }
  }
}
