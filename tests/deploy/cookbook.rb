# Evaluates the cookbook's resources and recipes without Chef, and prints what they declare.
#
# What it is: stand-ins for the part of Chef's language that this cookbook uses. Properties are
# checked (type, required, regex, callbacks); an action's declarations are recorded in their order,
# with their attributes and notifications; templates are rendered by ERB. What it is not: Chef.
# No provider runs, nothing is converged, and a method that Chef lacks would not be noticed.
#
#   echo '{"resource": "agent", "properties": {…}}' | ruby cookbook.rb COOKBOOK
#   echo '{"recipe": "default", "node": {…}}' | ruby cookbook.rb COOKBOOK
require 'erb'
require 'json'

COOKBOOK = File.expand_path(ARGV.fetch(0))
Dir[File.join(COOKBOOK, 'libraries', '*.rb')].sort.each { |path| require path }

module Chef
  Config = { file_cache_path: '/var/chef/cache' }.freeze
end

# Chef's own kind of hash: what has to be made plain before YAML gets it.
class Mash < Hash; end

def mashed(value)
  case value
  when Hash then value.each_with_object(Mash.new) { |(key, inner), mash| mash[key] = mashed(inner) }
  when Array then value.map { |inner| mashed(inner) }
  else value
  end
end

# Attributes, and nothing about the host's name: whoever asks for it fails.
class Node
  def initialize(attributes)
    @attributes = mashed(attributes)
  end

  def [](key)
    raise "asked for node['#{key}']" if %w(hostname fqdn name machinename ipaddress).include?(key)

    @attributes[key]
  end

  def method_missing(name, *)
    raise "asked for node.#{name}"
  end

  def respond_to_missing?(*)
    false
  end
end

# One declaration within an action or a recipe.
class Declaration
  attr_reader :record

  def initialize(type, name, outer)
    @outer = outer
    @record = { 'type' => type, 'name' => name, 'attributes' => {}, 'notifies' => [] }
  end

  def notifies(action, target, timing)
    @record['notifies'] << [action, target, timing]
  end

  def not_if
    @record['left_out'] = yield
  end

  def method_missing(name, *values)
    return @outer.public_send(name, *values) if values.empty?

    @record['attributes'][name.to_s] = values.length == 1 ? values.first : values
  end

  def respond_to_missing?(*)
    true
  end
end

# Where declarations are recorded.
class Context
  attr_reader :declared, :node

  def initialize(node)
    @node = node
    @declared = []
  end

  def method_missing(type, name = nil, &block)
    raise NoMethodError, "#{type} without a name" if name.nil?

    declaration = Declaration.new(type.to_s, name, self)
    declaration.instance_eval(&block) if block
    render(declaration.record) if type == :template
    @declared << declaration.record
  end

  def respond_to_missing?(*)
    true
  end

  private

  def render(record)
    source = File.join(COOKBOOK, 'templates', record['attributes'].fetch('source'))
    scope = Object.new
    record['attributes'].fetch('variables').each { |k, v| scope.instance_variable_set("@#{k}", v) }
    text = ERB.new(File.read(source), trim_mode: '-')
    record['content'] = text.result(scope.instance_eval { binding })
  end
end

# A file of resources/, as Chef's class for it would know it.
class Resource
  PROPERTY = %i(default required regex callbacks description coerce sensitive).freeze

  attr_reader :actions, :facts

  def initialize(path)
    @properties = {}
    @actions = {}
    @facts = {}
    @methods = []
    instance_eval(File.read(path), path)
  end

  def unified_mode(value)
    @facts['unified_mode'] = value
  end

  def resource_name(value)
    @facts['resource_name'] = value
  end

  def provides(value)
    @facts['provides'] = value
  end

  def property(name, types, **options)
    unknown = options.keys - PROPERTY
    raise "property #{name}: unknown options #{unknown}" unless unknown.empty?

    @properties[name] = [Array(types), options]
  end

  def action(name, &block)
    @actions[name] = block
  end

  def action_class(&block)
    @methods << block
  end

  def run(name, given, node)
    context = Class.new(Context)
    @methods.each { |block| context.class_eval(&block) }
    values = checked(name, given)
    context.define_method(:new_resource) { values }
    running = context.new(node)
    running.instance_eval(&@actions.fetch(name))
    running.declared
  end

  private

  def checked(action, given)
    unknown = given.keys.map(&:to_sym) - @properties.keys
    raise "no such property: #{unknown.join(', ')}" unless unknown.empty?

    @properties.each { |name, declared| check(name, *declared, given[name.to_s], action) }
    values = @properties.map { |name, (_, options)| [name, given.fetch(name.to_s, options[:default])] }
    Struct.new(*@properties.keys).new(*values.map(&:last))
  end

  def check(name, types, options, value, action)
    if value.nil?
      raise "#{name} is required" if Array(options[:required]).include?(action)

      return
    end
    raise "#{name} must be #{types}" unless types.compact.any? { |type| value.is_a?(type) }
    raise "#{name} does not match" if options[:regex] && value !~ options[:regex]

    options.fetch(:callbacks, {}).each do |said, holds|
      raise "#{name} #{said}" unless holds.call(value)
    end
  end
end

# attributes/default.rb, where default['a']['b'] = c makes what is missing on the way.
class Attributes
  attr_reader :default

  def initialize
    @default = Hash.new { |hash, key| hash[key] = Hash.new(&hash.default_proc) }
    path = File.join(COOKBOOK, 'attributes/default.rb')
    instance_eval(File.read(path), path)
  end
end

def merged(below, above)
  below.merge(above) do |_, a, b|
    a.is_a?(Hash) && b.is_a?(Hash) ? merged(a, b) : b
  end
end

asked = JSON.parse($stdin.read)
node = Node.new(merged(Attributes.new.default, asked.fetch('node', {})))
begin
  if asked['resource']
    resource = Resource.new(File.join(COOKBOOK, 'resources', "#{asked['resource']}.rb"))
    action = asked.fetch('action', 'create').to_sym
    declared = resource.run(action, mashed(asked.fetch('properties', {})), node)
    puts JSON.generate('facts' => resource.facts, 'declared' => declared)
  else
    path = File.join(COOKBOOK, 'recipes', "#{asked['recipe']}.rb")
    recipe = Context.new(node)
    recipe.instance_eval(File.read(path), path)
    puts JSON.generate('declared' => recipe.declared)
  end
rescue RuntimeError => e
  warn e.message
  exit 1
end
