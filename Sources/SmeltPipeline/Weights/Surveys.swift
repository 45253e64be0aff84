// What rows need to know of a whole weight, or of all weights that engines make one matrix of, found out once.

import SmeltModels
import SmeltQuantization
import SmeltTensors

internal import Synchronization

/// Numbers of `Scheme.survey`, one for each weight, or one for all parts of a fused matrix that get the same scheme where the scheme
/// shares it. Used from any thread.
final class Surveys: Sendable {
  private final class Box: Sendable {
    let names: [WeightName]
    let number = Mutex<Float??>(nil)

    init(_ names: [WeightName]) { self.names = names }
  }

  private let boxes: [WeightName: Box]

  /// Numbers of some weights that will be rounded, none found out yet.
  init(_ weights: [(spec: WeightSpec, scheme: any Scheme)]) {
    var boxes: [WeightName: Box] = [:]
    let sharing = weights.filter { $0.scheme.sharesSurvey }
    for (_, places) in FusionGroup.all(sharing.map(\.spec)) {
      for alike in Dictionary(grouping: places, by: { sharing[$0].scheme.name }).values {
        let box = Box(alike.map { sharing[$0].spec.name })
        for name in box.names { boxes[name] = box }
      }
    }
    for (spec, _) in weights where boxes[spec.name] == nil { boxes[spec.name] = Box([spec.name]) }
    self.boxes = boxes
  }

  /// The number of a weight.
  /// - Parameters:
  ///   - scheme: what the weight is rounded by.
  ///   - part: a weight with the options it is rounded with; asked for every part of the fused matrix, in the engines' order.
  /// - Throws: what `part` and the survey throw.
  func number(_ name: WeightName, _ scheme: any Scheme, part: (WeightName) throws -> SurveyPart) throws
    -> Float?
  {
    guard let box = boxes[name] else { return try scheme.survey([part(name)]) }
    return try box.number.withLock { known in
      if known == nil { known = .some(try scheme.survey(box.names.map(part))) }
      return known ?? nil
    }
  }

  /// Whether a weight is rounded with a number that others have too.
  func isShared(_ name: WeightName) -> Bool { (boxes[name]?.names.count ?? 1) > 1 }
}
