defmodule Emily.Native.Cuda do
  @moduledoc false
  # Has NVIDIA's libraries loaded before libemily, in the releases that need them: libemily_cuda does
  # it, since no VM can load a library that is not made for it. See Emily.Artifact.Cuda.

  alias Emily.Artifact.{Cache, Cuda, CudaHome, Manifest}
  alias Emily.Settings

  @library "libemily_cuda"

  @doc """
  Does what is to be done before the library in `priv` is loaded; nothing where it needs no CUDA.
  """
  @spec prepare(Path.t()) :: :ok | {:error, String.t()}
  def prepare(priv) do
    if File.exists?(Path.join(priv, @library <> ".so")), do: prepare_cuda(priv), else: :ok
  end

  defp prepare_cuda(priv) do
    settings = Settings.load()

    with {:ok, variant} <- variant(priv, settings),
         :ok <- load(priv),
         :ok <- open_all(Cuda.libraries(variant, Settings.cuda_paths())) do
      point_out_headers(variant, priv, settings)
    else
      :none -> :ok
      {:error, text} -> {:error, text}
    end
  rescue
    # A setting of the wrong type.
    error in ArgumentError -> {:error, Exception.message(error)}
  end

  # What is built in a checkout has no manifest, and is known by the setting that it was built with.
  defp variant(priv, settings) do
    variant =
      case Manifest.read(priv) do
        {:ok, manifest} -> manifest.variant
        {:error, _absent} -> settings.variant
      end

    if Cuda.needs(variant), do: {:ok, variant}, else: :none
  end

  # Loaded once, although what needs it may be tried again.
  defp load(priv) do
    case :erlang.load_nif(String.to_charlist(Path.join(priv, @library)), 0) do
      :ok -> :ok
      {:error, {:reload, _text}} -> :ok
      {:error, {_kind, text}} -> {:error, to_string(text)}
    end
  end

  defp open_all(libraries) do
    Enum.find_value(libraries, :ok, fn {name, path} ->
      with {:error, text} <- open(name, path) do
        {:error, "CUDA's library #{path} does not load: #{text}"}
      else
        _opened -> nil
      end
    end)
  end

  # A machine without the headers computes what no kernel is compiled for; the doctor names what is
  # missing. MLX keeps what it compiled, where nobody else may write.
  defp point_out_headers(variant, priv, settings) do
    with {[_folder | _more] = folders, _absent} <- Cuda.headers(variant, Settings.cuda_paths()),
         {:ok, cache} <- Cache.locate(settings),
         {:ok, home} <- CudaHome.make(cache, priv, folders) do
      set_variable("CUDA_HOME", home)

      if Settings.variable(settings, "MLX_PTX_CACHE_DIR") == nil,
        do: set_variable("MLX_PTX_CACHE_DIR", Path.join(cache.folder, "cuda/kernels"))

      :ok
    else
      {[], _absent} -> :ok
      {:error, error} -> {:error, Exception.message(error)}
    end
  end

  @doc "Loads a library by its path, unless one of the name is loaded."
  @spec open(String.t(), Path.t()) :: {:ok, {}} | {:error, String.t()}
  def open(_name, _path), do: :erlang.nif_error(:not_loaded)

  @doc "Sets a variable that MLX, and not the VM, reads."
  @spec set_variable(String.t(), String.t()) :: boolean()
  def set_variable(_name, _value), do: :erlang.nif_error(:not_loaded)
end
