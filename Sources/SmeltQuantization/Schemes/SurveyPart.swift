// What `Scheme.survey` looks at.

package import SmeltTensors

/// One part of what a scheme surveys: a weight, and how its scales are chosen.
package struct SurveyPart: Sendable {
  /// The numbers.
  package let weight: Weight
  /// Observer and importance.
  package let options: QuantizeOptions

  /// A part.
  package init(_ weight: Weight, _ options: QuantizeOptions) {
    self.weight = weight
    self.options = options
  }
}
