// Weights made by a test, and slow arithmetic in double precision to compare with.

import SmeltModels
import SmeltStorage
import SmeltTensors
import SmeltTestSupport

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Weights in memory.
struct MemoryWeights: Weights {
  private var weights: [WeightName: Weight] = [:]

  init() {}

  /// The tensors of a checkpoint in the making, under the hub's names.
  init(_ tiny: TinyV4, _ family: any ModelFamily) throws {
    let tensors = Dictionary(uniqueKeysWithValues: tiny.tensors.map { ($0.name, $0) })
    for spec in family.weights {
      guard let tensor = tensors[spec.spellings[0].tensor] else {
        preconditionFailure("the generator makes no '\(spec.spellings[0].tensor)'")
      }
      let encoding: any Encoding =
        switch tensor.dtype {
        case .bf16: Plain.bf16
        case .i64: IntegerTable.i64
        default: Plain.f32
        }
      weights[spec.name] = try Weight(
        name: tensor.name, shape: spec.shape, encoding: encoding,
        parts: [
          Part(.values, dtype: tensor.dtype, shape: Shape(tensor.shape), bytes: Bytes(tensor.bytes))
        ])
    }
  }

  /// Adds floats under a name.
  mutating func add(_ name: WeightName, _ shape: Shape, _ values: [Float]) throws {
    weights[name] = try Weight(
      name: name.description, shape: shape, encoding: Plain.f32,
      parts: [
        Part(.values, dtype: .f32, shape: shape, bytes: Bytes(littleEndian(values.map(\.bitPattern))))
      ])
  }

  func weight(_ name: WeightName) throws -> Weight {
    guard let weight = weights[name] else { preconditionFailure("the test has no '\(name)'") }
    return weight
  }

  func finished(_ name: WeightName) {}
}

/// Slow twins in double precision.
enum Slow {
  static func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
  static func exponential(_ x: Double) -> Double { exp(x) }

  static func cosine(_ x: Double) -> Double { cos(x) }
  static func sine(_ x: Double) -> Double { sin(x) }

  static func doubles(_ x: some Collection<Float>) -> [Double] { x.map { Double($0) } }

  static func dot(_ a: some Collection<Double>, _ b: some Collection<Double>) -> Double {
    zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
  }

  /// x · Wᵀ for one token; W is [rows, x.count].
  static func product(_ x: [Double], _ w: [Float]) -> [Double] {
    stride(from: 0, to: w.count, by: x.count).map { dot(x, doubles(w[$0..<$0 + x.count])) }
  }

  static func rms(_ x: [Double], _ w: [Float]?, _ eps: Double) -> [Double] {
    let root = (dot(x, x) / Double(x.count) + eps).squareRoot()
    return x.indices.map { index in x[index] / root * (w.map { Double($0[index]) } ?? 1) }
  }
}

/// The largest |a - b| over the largest |b|.
func distance(_ a: some Collection<Float>, _ b: some Collection<Double>) -> Double {
  precondition(a.count == b.count)
  let scale = b.map { abs($0) }.max() ?? 1
  return (zip(a, b).map { abs(Double($0) - $1) }.max() ?? 0) / max(scale, 1e-30)
}
