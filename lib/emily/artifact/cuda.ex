defmodule Emily.Artifact.Cuda do
  @moduledoc """
  Where a machine has what NVIDIA's part of CUDA brings: libraries, and the headers that kernels are
  compiled with.

  The releases for NVIDIA's GPUs hold none of it. It may be installed in the system, where the
  loader finds it; in a toolkit's folder, such as `CUDA_PATH` names; or by pip, in the folder
  `nvidia` of a Python environment:

      $ python3 -m venv cuda && cuda/bin/pip install nvidia-cublas nvidia-cudnn-cu13 …

      config :emily, variant: :cuda13, cuda_path: "/srv/cuda/lib/python3.12/site-packages/nvidia"

  `mix emily.doctor` names the packages of what is missing. `release/targets.json` lists what each
  variant takes, in the order in which it is loaded.
  """

  alias Emily.Artifact.Targets

  @driver "libcuda.so.1"

  @typedoc "A library, header or folder of headers, and the packages that have it: pip's, and those of NVIDIA's apt suite."
  @type need :: %{name: String.t(), pip: String.t(), apt: String.t()}

  @typedoc "Lists a folder, as `File.ls/1` does."
  @type lister :: (Path.t() -> {:ok, [String.t()]} | {:error, term()})

  @doc """
  What a variant takes, or nil where it takes nothing of NVIDIA's, or is unknown.

      iex> Enum.map(Emily.Artifact.Cuda.needs("cuda13").headers, & &1.pip)
      ["nvidia-cuda-runtime", "nvidia-cuda-crt"]

      iex> Emily.Artifact.Cuda.needs("cpu")
      nil
  """
  @spec needs(String.t() | nil) :: %{libraries: [need()], headers: [need()]} | nil
  def needs(variant) do
    case variant in Targets.variants() and Targets.variant!(variant) do
      %{"cuda" => %{"libraries" => libraries, "headers" => headers}} ->
        %{libraries: Enum.map(libraries, &need/1), headers: Enum.map(headers, &need/1)}

      _other ->
        nil
    end
  end

  defp need(%{"name" => name, "pip" => pip, "apt" => apt}), do: %{name: name, pip: pip, apt: apt}

  @doc "The library that comes with NVIDIA's driver, and with nothing else."
  @spec driver() :: String.t()
  def driver, do: @driver

  @doc """
  Which packages have a library or header that a variant takes of NVIDIA's, in words; nil for others.

      iex> Emily.Artifact.Cuda.packages("cuda13", "libcudnn.so.9")
      "pip's nvidia-cudnn-cu13, or libcudnn9-cuda-13 of NVIDIA's apt suite"

      iex> Emily.Artifact.Cuda.packages("cuda13", "libcuda.so.1")
      "the NVIDIA driver"
  """
  @spec packages(String.t(), String.t()) :: String.t() | nil
  def packages(variant, name) do
    with %{libraries: libraries, headers: headers} <- needs(variant) do
      case Enum.find(libraries ++ headers, &(&1.name == name)) do
        %{pip: pip, apt: apt} -> "pip's #{pip}, or #{apt} of NVIDIA's apt suite"
        nil -> if name == @driver, do: "the NVIDIA driver"
      end
    end
  end

  @doc """
  The folders that a path may have libraries in: a toolkit's, or those of pip's packages.
  """
  @spec library_folders(Path.t(), lister()) :: [Path.t()]
  def library_folders(path, list \\ &File.ls/1) do
    [Path.join(path, "lib64"), Path.join(path, "lib"), path | below(path, "lib", list)]
  end

  # Such as nvidia/cudnn/lib.
  defp below(path, name, list) do
    case list.(path) do
      {:ok, children} -> children |> Enum.sort() |> Enum.map(&Path.join([path, &1, name]))
      {:error, _reason} -> []
    end
  end

  @doc """
  The libraries of a variant that are in the folders of these paths, in the order to load them in.

  What is in none of them is left to the loader.
  """
  @spec libraries(String.t(), [Path.t()], lister()) :: [{name :: String.t(), Path.t()}]
  def libraries(variant, paths, list \\ &File.ls/1) do
    listed =
      for path <- paths,
          folder <- library_folders(path, list),
          {:ok, names} <- [list.(folder)],
          do: {folder, names}

    for %{name: name} <- needs(variant).libraries,
        wanted <- builtins(name, listed) ++ [name],
        {folder, _names} <- Enum.take(having(wanted, listed), 1),
        do: {wanted, Path.join(folder, wanted)}
  end

  defp having(name, listed), do: Enum.filter(listed, fn {_folder, names} -> name in names end)

  # NVRTC asks for a library of its own by a name with its minor version, once it compiles something.
  defp builtins("libnvrtc.so." <> _major = nvrtc, listed) do
    "libnvrtc" <> version = nvrtc

    for {_folder, names} <- Enum.take(having(nvrtc, listed), 1),
        name <- names,
        String.starts_with?(name, "libnvrtc-builtins" <> version <> "."),
        do: name
  end

  defp builtins(_name, _listed), do: []

  @doc """
  The folders of headers among these paths that have what a variant takes, and the names of what none has.

  A folder is a toolkit's `include`, or that of a package of pip's. Of two that have the same, the first counts.
  """
  @spec headers(String.t(), [Path.t()], lister()) :: {[Path.t()], absent :: [String.t()]}
  def headers(variant, paths, list \\ &File.ls/1) do
    listed =
      for path <- paths,
          folder <- [Path.join(path, "include") | below(path, "include", list)],
          {:ok, names} <- [list.(folder)],
          do: {folder, names}

    {found, absent} =
      needs(variant).headers
      |> Enum.map(&{&1.name, having(&1.name, listed)})
      |> Enum.split_with(fn {_name, folders} -> folders != [] end)

    folders = for {_name, [{folder, _names} | _others]} <- found, uniq: true, do: folder
    {folders, for({name, []} <- absent, do: name)}
  end
end
