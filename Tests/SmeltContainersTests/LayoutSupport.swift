// A folder of Fixtures/layouts as tests see it, and the same with something wrong.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// One checkpoint of Fixtures/layouts: its tensors can be taken away and replaced. Made by Fixtures/make/layouts.py.
struct LayoutFixture: TensorSource {
  /// One weight of it.
  struct Case: Sendable {
    let request: WeightRequest
    let encoding: String
    /// The tensors it takes.
    let took: [String]
    /// The name of its numbers in expected.safetensors.
    let key: String
  }

  static let names = (try? namesInFolder(fixture("layouts"))) ?? []

  let path: String
  var tensors: [TensorInfo]
  /// config.json and hf_quant_config.json as text.
  var config: String
  var sidecar: String?
  let cases: [Case]

  init(_ name: String) throws {
    let path = fixture("layouts/\(name)")
    self.path = path
    func text(_ file: String) throws -> String {
      String(
        decoding: try readSmallFile("\(path)/\(file)", limit: 1 << 20, code: .configJSON).array, as: UTF8.self
      )
    }
    tensors = try SafetensorsFile(path: "\(path)/model.safetensors").tensors
    config = try text("config.json")
    sidecar = try? text("hf_quant_config.json")
    cases = try #require(try JSON.scan(try text("cases.json")).array).map { json in
      let place = Spelling(
        try #require(json["tensor"]?.string), stackIndex: json["stackIndex"]?.integer,
        rows: json["rows"]?.array.map { $0[0].integer!..<$0[1].integer! },
        rowStride: json["rowStride"]?.integer ?? 1, rowPhase: json["rowPhase"]?.integer ?? 0,
        transposed: json["transposed"]?.bool ?? false)
      return Case(
        request: WeightRequest(place, shape: Shape(json["shape"]!.array!.map { $0.integer! })),
        encoding: try #require(json["encoding"]?.string), took: json["tensors"]!.array!.map { $0.string! },
        key: try #require(json["expected"]?.string))
    }
  }

  func tensor(_ name: String) -> TensorInfo? { tensors.first { $0.name == name } }
  var files: [(path: String, byteCount: Int)] { [] }
  var warnings: [FormatError] { [] }
  func checkUnchanged() throws(FormatError) {}

  func quantization() throws -> QuantizationConfig {
    try QuantizationConfig(
      config: try JSON.scan(config), file: "config.json", sidecar: try sidecar.map { try JSON.scan($0) })
  }

  func join(_ request: WeightRequest) throws -> JoinedWeight? {
    try Layouts.join(request, in: self, try quantization())
  }

  /// The float32 numbers of a case.
  func expected(_ key: String) throws -> [Float] {
    let file = try SafetensorsFile(path: "\(path)/expected.safetensors")
    let tensor = try #require(file.tensor(key))
    #expect(tensor.dtype == .f32)
    return try Weight(
      name: key, shape: tensor.shape, encoding: Plain.f32,
      parts: [Part(.values, dtype: .f32, shape: tensor.shape, bytes: tensor.bytes)]
    ).decode()
  }

  // MARK: damage

  /// Takes a tensor away.
  mutating func remove(_ name: String) {
    precondition(tensor(name) != nil, name)
    tensors.removeAll { $0.name == name }
  }

  /// Gives a tensor another dtype or shape, and bytes of zero to match.
  mutating func replace(_ name: String, dtype: DType? = nil, shape: Shape? = nil, bytes: [UInt8]? = nil) {
    guard let place = tensors.firstIndex(where: { $0.name == name }) else { preconditionFailure(name) }
    let old = tensors[place]
    let (dtype, shape) = (dtype ?? old.dtype, shape ?? old.shape)
    let content = bytes ?? [UInt8](repeating: 0, count: dtype.byteCount(shape.count)!)
    tensors[place] = TensorInfo(
      name: name, dtype: dtype, shape: shape, file: old.file, offset: old.offset, bytes: Bytes(content))
  }

  /// Changes the configuration's text.
  mutating func edit(_ old: String, _ new: String) {
    precondition(config.contains(old), old)
    var text = ""
    var rest = config[...]
    while let range = rest.firstRange(of: old) {
      text += rest[..<range.lowerBound] + new
      rest = rest[range.upperBound...]
    }
    config = text + rest
  }
}
