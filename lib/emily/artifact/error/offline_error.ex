defmodule Emily.Artifact.OfflineError do
  @moduledoc """
  No network may be asked, and the cache does not have what is wanted.

  `missing` says what is wrong with the cache, in words.
  """

  alias Emily.Artifact.Report

  defexception [:asset, :path, :missing]

  @type t :: %__MODULE__{asset: String.t(), path: Path.t(), missing: String.t()}

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not install #{error.asset}: Emily is set to be offline, and the cache does not have it",
      [{"path", error.path}, {"missing", error.missing}],
      "Run `mix emily.fetch --into DIR` where there is a network, bring DIR here, and run " <>
        "`EMILY_RELEASE_URL=file:///…/DIR mix compile`; or unset EMILY_OFFLINE."
    )
  end
end
