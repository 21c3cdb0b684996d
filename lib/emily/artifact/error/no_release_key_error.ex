defmodule Emily.Artifact.NoReleaseKeyError do
  @moduledoc """
  The package was made without the public key that its releases are signed with.
  """

  alias Emily.Artifact.{Report, Targets}

  defexception [:path]

  @type t :: %__MODULE__{path: Path.t()}

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not install Emily's native library: this copy of Emily carries no release key",
      [{"path", error.path}],
      "Depend on a published version of Emily, or build it: `cargo xtask nif` in a checkout of #{Targets.home()}."
    )
  end
end
