defmodule Emily.Artifact.ManifestError do
  @moduledoc """
  A `manifest.json` that is not what the install contract asks for.
  """

  alias Emily.Artifact.Report

  defexception [:path, :field, :expected, :actual]

  @type t :: %__MODULE__{
          path: Path.t() | nil,
          field: String.t() | nil,
          expected: String.t(),
          actual: String.t()
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not accept manifest.json",
      [
        {"path", error.path},
        {"field", error.field},
        {"expected", error.expected},
        {"actual", error.actual}
      ],
      "Run `mix compile.emily --force` to install again, and report it if it repeats."
    )
  end
end
