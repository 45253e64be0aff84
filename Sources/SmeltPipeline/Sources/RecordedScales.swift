// What a source declares of the rounding of activations and caches, as an ingot keeps it: its weights have canonical names, so that the
// tensors that the source had beside them have no place. Formats/ingot.md, section 4.10.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The file of an ingot that says how engines round what its weights are multiplied with.
enum RecordedScales {
  /// Its name.
  static let fileName = "smelt-activations.json"
  private static let schema = "smelt.activations/1"

  /// What a result of these weights says, and the tensors of the source whose numbers it gives again; nil where nothing is declared
  /// of what is kept.
  /// - Throws: as `declaredScales`.
  static func file(_ model: Model, _ weights: [PlannedWeight]) throws -> (bytes: Bytes, taken: Set<String>)? {
    let declared = try model.declaredScales()
    var (members, taken): ([(String, JSON)], Set<String>) = ([], [])
    var keepsCodes = false
    for planned in weights where planned.isKept && CompressedLayout.isQuantized(planned.resultEncoding) {
      keepsCodes = true
      if let fault = declared.faults[planned.stored.spec.name] { throw fault }
      guard let input = declared.inputs[planned.stored.spec.name] else { continue }
      members.append((planned.stored.spec.name.description, json(input)))
      if let tensor = input.tensor, input.scale != nil { taken.insert(tensor) }
    }
    for tensors in declared.cacheTensors.values { taken.formUnion(tensors) }
    guard !members.isEmpty || !declared.caches.isEmpty || keepsCodes && declared.saysAll else { return nil }
    let caches = declared.caches.values.sorted { $0.layer < $1.layer }.map { range -> JSON in
      ["layer": JSON(range.layer), "keys": number(range.keys), "values": number(range.values)]
    }
    let json: JSON = [
      "schema": JSON(schema), "says_all": JSON(declared.saysAll), "weights": JSON(members: members),
      "caches": JSON(caches),
    ]
    return (Bytes(Array((json.text() + "\n").utf8)), taken)
  }

  /// A float32 in decimals that give it again.
  private static func number(_ value: Float) -> JSON { JSON(Double(value)) }

  private static func json(_ input: DeclaredScales.Input) -> JSON {
    var members: [(String, JSON)] = [("form", JSON(word(input.form)))]
    switch input.form {
    case .group(let columns), .powers(let columns): members.append(("columns", JSON(columns)))
    default: break
    }
    members.append(("type", input.isFloat ? "float" : "int"))
    if let scale = input.scale {
      members.append((scale.divides ? "divisor" : "scale", number(scale.stored)))
    }
    return JSON(members: members)
  }

  private static func word(_ form: DeclaredActivations.Form) -> String {
    switch form {
    case .token: "token"
    case .group: "group"
    case .powers: "powers"
    case .tensor: "tensor"
    case .local: "local"
    }
  }

  /// What such a file declares of weights.
  /// - Parameter ingot: the path, for messages.
  /// - Throws: `C_INDEX` for what this program does not write, `Q_SCALE_VALUE` for a scale that is not positive and finite.
  static func read(_ bytes: Bytes, of weights: [WeightSpec], ingot: String) throws(FormatError)
    -> DeclaredScales
  {
    let reader = RecordedReader(ingot: ingot)
    let json: JSON
    do {
      json = try JSON.scan(bytes)
    } catch {
      throw reader.refuse("is no JSON: \(error.problem)")
    }
    let found = json["schema"]?.string
    guard found == schema else {
      throw reader.refuse(
        "has the schema \(found.map { "'\(excerpt($0))'" } ?? "none"), expected '\(schema)'")
    }
    guard let saysAll = json["says_all"]?.bool, let members = json["weights"]?.object,
      let layers = json["caches"]?.array
    else { throw reader.refuse("has no 'says_all', 'weights' or 'caches' of the kind that is expected") }
    var declared = DeclaredScales()
    declared.saysAll = saysAll
    let names = Set(weights.map(\.name))
    for (key, value) in zip(members.keys, members.values) {
      let name = WeightName(parsing: key)
      guard names.contains(name) else { throw reader.refuse("names '\(excerpt(key))', which is no weight") }
      declared.inputs[name] = try reader.input(value, key)
    }
    declared.fuse(weights)
    for value in layers {
      guard let layer = value["layer"]?.integer, layer >= 0, declared.caches[layer] == nil else {
        throw reader.refuse("has a cache without a layer of its own")
      }
      declared.caches[layer] = CacheRange(
        layer: layer, keys: try reader.scale(value["keys"], "the keys of layer \(layer)"),
        values: try reader.scale(value["values"], "the values of layer \(layer)"))
    }
    return declared
  }
}

/// Reads the parts of such a file.
private struct RecordedReader {
  let ingot: String

  func refuse(_ problem: String) -> FormatError {
    FormatError(
      .ingotIndex, file: ingot, subject: RecordedScales.fileName, problem,
      help: "convert the source again, with this version")
  }

  func input(_ json: JSON, _ name: String) throws(FormatError) -> DeclaredScales.Input {
    func columns() throws(FormatError) -> Int {
      guard let count = json["columns"]?.integer, (1...65536).contains(count) else {
        throw refuse("has no 'columns' from 1 to 65536 for '\(excerpt(name))'")
      }
      return count
    }
    let word = json["form"]?.string ?? "none"
    let form: DeclaredActivations.Form
    switch word {
    case "token": form = .token
    case "group": form = .group(try columns())
    case "powers": form = .powers(try columns())
    case "tensor": form = .tensor
    case "local": form = .local
    default:
      throw refuse(
        "has the form '\(excerpt(word))' for '\(excerpt(name))', expected token, group, powers, tensor or local"
      )
    }
    guard let type = json["type"]?.string, ["float", "int"].contains(type) else {
      throw refuse("has no 'type' for '\(excerpt(name))', expected float or int")
    }
    var input = DeclaredScales.Input(form: form, isFloat: type == "float")
    if let value = json["divisor"] {
      input.scale = InputScale(try scale(value, name), divides: true)
    } else if let value = json["scale"] {
      input.scale = InputScale(try scale(value, name))
    }
    return input
  }

  func scale(_ json: JSON?, _ what: String) throws(FormatError) -> Float {
    guard let number = json?.double.map({ Float($0) }), number > 0, number.isFinite else {
      throw FormatError(
        .scaleValue, file: ingot, subject: RecordedScales.fileName,
        "has \(json?.double.map { "\($0)" } ?? json?.kind ?? "nothing") as the scale of \(excerpt(what)), expected a positive finite number"
      )
    }
    return number
  }
}
