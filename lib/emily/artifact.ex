defmodule Emily.Artifact do
  @moduledoc """
  One published archive of native libraries: a version, a variant and a target.

  The modules below `Emily.Artifact` fetch it, verify it and put its files into `priv/`; see
  `Emily.Artifact.Install` for the order in which that happens. None of them knows Nx, and
  none needs more than Elixir and OTP.
  """

  @enforce_keys [:version, :variant, :target, :asset, :library, :files]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          version: String.t(),
          variant: String.t(),
          target: String.t(),
          asset: String.t(),
          library: String.t(),
          files: [String.t()]
        }

  @doc "The name of the checksum's file."
  @spec sidecar(t()) :: String.t()
  def sidecar(%__MODULE__{asset: asset}), do: asset <> ".sha256"

  @doc "The name of the file that signs the checksum."
  @spec signature(t()) :: String.t()
  def signature(%__MODULE__{asset: asset}), do: asset <> ".sha256.minisig"
end
