// Unquantized tensors: floats and integer tables, whole or a part of a stacked, fused or transposed tensor.

internal import SmeltStorage
internal import SmeltTensors

/// Numbers stored one by one. Formats/layouts.md, section 2.
struct PlainTensors: Layout {
  let name = "plain"

  /// The tensor of the plain name, whatever its dtype: nothing else may claim it.
  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo? { plain }

  func declare(_ weight: DeclaredWeight) -> [DeclaredTensor]? {
    guard weight.encoding is Plain || weight.encoding is IntegerTable else { return nil }
    return weight.parts.map { DeclaredTensor(name: weight.tensor, dtype: $0.dtype, shape: $0.shape) }
  }

  func join(_ context: JoinContext) throws -> JoinedWeight {
    let tensor = context.codes
    let encoding: any Encoding
    switch tensor.dtype {
    case .f32: encoding = Plain.f32
    case .f16: encoding = Plain.f16
    case .bf16: encoding = Plain.bf16
    case .i64: encoding = IntegerTable.i64
    case .i32: encoding = IntegerTable.i32
    case .f64 where context.request.takesAnyType: encoding = Plain.f64
    default:
      if context.request.takesAnyType {
        guard let table = IntegerTable.of(tensor.dtype) else {
          throw RequestError(
            .unsupported, "'\(tensor.name)' is \(tensor.dtype), whose elements share bytes, without scales",
            help: "leave the tensor out by --allow-drop")
        }
        return try context.lent(table, context.whole(.values, tensor, tensor.shape))
      }
      throw context.refuse(
        .configShape, "is \(tensor.dtype), which no layout of this model stores weights in")
    }
    if context.place.isWhole {
      return try context.lent(encoding, context.whole(.values, tensor, tensor.shape))
    }
    let shape = context.shape
    guard let cut = RowCut(context.place, of: tensor.shape, wanted: shape) else {
      throw context.refuse(
        .configShape, "is \(tensor.shape), which has no \(shape) \(context.place.description)")
    }
    let bytes = cut.bytes(of: tensor)
    if cut.isContiguous {
      return try context.lent(
        encoding, [Part(.values, dtype: tensor.dtype, shape: shape, bytes: bytes)],
        from: [Share(tensor, bytes)])
    }
    let size = tensor.dtype.bits / 8
    return try context.built(encoding, from: [cut.share(of: tensor)]) {
      [
        Part(
          .values, dtype: tensor.dtype, shape: shape, bytes: cut.gather(bytes, elementBytes: size))
      ]
    }
  }
}

/// A number of a place: 2nd, 3rd, 11th.
private func ordinal(_ number: Int) -> String {
  let isTeen = (11...13).contains(number % 100)
  return "\(number)" + (isTeen ? "th" : [1: "st", 2: "nd", 3: "rd"][number % 10] ?? "th")
}

extension Spelling {
  /// Where in the tensor, in words.
  var description: String {
    var words = "for expert \(stackIndex ?? 0)"
    if let rows { words += " in rows \(rows.lowerBound)..<\(rows.upperBound)" }
    if rowStride > 1 { words += ", every \(ordinal(rowStride)) row from row \(rowPhase)" }
    return words + (transposed ? ", transposed" : "")
  }
}
