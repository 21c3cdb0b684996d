defmodule Emily.Compiler.Kernels do
  @moduledoc false
  # Where the kernels of fused functions are kept: beside what was downloaded, or, for a user without a home, among
  # the system's temporary files. The core refuses a folder that others can write to.

  alias Emily.Artifact.Cache
  alias Emily.Settings

  @spec folder(Settings.t()) :: Path.t()
  def folder(settings) do
    case Cache.locate(settings) do
      {:ok, cache} -> Path.join(cache.folder, "kernels")
      {:error, _no_home} -> Path.join(System.tmp_dir!(), "emily-kernels")
    end
  end
end
